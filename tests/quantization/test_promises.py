"""What the README promises, held to every quantizer alike."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from rotvq.model import VQVAE
from rotvq.quantization import (
    EMA,
    ESTIMATORS,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
    health,
)

K, D = 24, 6
RULES = {"ema": EMA(0.9), "gradient": GradientLearned(0.9), "linear": LinearMap(0.9)}


def vector(estimator="rotation", rule="ema", k=K, d=D, **more):
    def make(**place):
        quantizer = VectorQuantizer(k, d, estimator=estimator, rule=RULES[rule], **(more | place))
        quantizer.initialize_codebook(torch.randn(300, d))
        return quantizer

    return make


def fsq(*levels):
    return lambda **place: FiniteScalarQuantizer(levels, **place)


def residual(**place):
    return ResidualQuantizer([vector()(**place) for _ in range(2)])


def grouped(**place):
    return GroupedQuantizer([vector(d=4)(**place), fsq(3, 2)(**place)])


def groups_of_residual(**place):
    return GroupedQuantizer(
        [ResidualQuantizer([vector(d=3)(**place) for _ in range(2)]) for _ in range(2)]
    )


OF_EACH_KIND = {
    **{f"vq {e} ema": vector(e) for e in ESTIMATORS},
    **{f"vq rotation {rule}": vector(rule=rule) for rule in RULES},
    "vq restart": vector(restart=Restart(0.1)),
    "vq evenness": vector(weigh_use=True),
    "fsq": fsq(8, 5, 5, 5),
    "fsq of 2 levels": fsq(2, 2, 2, 2, 2, 2),
    "fsq of 2**32 codes": fsq(*[4] * 16),
    "residual": residual,
    "grouped": grouped,
    "groups of residual": groups_of_residual,
}
ALIKE = ("evenness", "restart", "2 levels", "groups")
COMPILED = {k: make for k, make in OF_EACH_KIND.items() if not any(word in k for word in ALIKE)}
"""Without those whose parts have graphs already: the compiler takes its time."""
ALL = {f"vq {e} {rule}": vector(e, rule) for e in ESTIMATORS for rule in RULES} | OF_EACH_KIND
DISCRETE = {name: make for name, make in ALL.items() if "reflection" not in name}
DTYPES = [torch.float16, torch.bfloat16]


def made(make, **place):
    torch.manual_seed(0)
    return make(**place)


def vectors(quantizer, *shape, seed=1):
    return torch.randn(*shape, quantizer.dim, generator=torch.Generator().manual_seed(seed))


def state(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those that no file holds included."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: t.detach().clone() for name, t in tensors}


def assert_same_state(module, before, **tolerance):
    now = state(module)
    assert now.keys() == before.keys()
    for name, t in now.items():
        torch.testing.assert_close(t, before[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def each(quantizers, argument="make"):
    return pytest.mark.parametrize(argument, quantizers.values(), ids=quantizers.keys())


@each(DISCRETE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *DTYPES])
@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_values_are_codes_bit_for_bit(make, dtype, channel_dim):
    quantizer = made(make, channel_dim=channel_dim)
    z = vectors(quantizer, 3, 40).to(dtype).movedim(-1, channel_dim)
    then = copy.deepcopy(quantizer)  # a step in training moves the codes afterwards
    for out in (quantizer(z), quantizer.eval()(z)):
        assert torch.equal(then.lookup(out.indices).to(dtype), out.z_q)
        assert torch.equal(then.encode(z), out.indices)
        assert out.z_q.shape == z.shape and out.z_q.dtype == dtype
        assert out.indices.shape == (3, 40, *quantizer.index_shape)
        then = quantizer


@each(DISCRETE)
def test_decoding_tokens_gives_the_forward_pass(make):
    quantizer = made(make, channel_dim=1)
    model = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=quantizer).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(model.decode(model.encode(x)), model(x).reconstruction)


@each(ALL)
@pytest.mark.parametrize("held", [0.0, math.nan, math.inf, -3e38])
def test_masked_tokens_change_nothing_whatever_they_hold(make, held):
    one, other = made(make), made(make)
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(5)) < 0.6
    clean = vectors(one, 3, 20)
    z = clean.where(mask.unsqueeze(-1), held).requires_grad_()
    kept = clean[mask].requires_grad_()
    torch.manual_seed(2)
    masked = one(z, mask)
    torch.manual_seed(2)
    alone = other(kept)
    assert torch.equal(masked.z_q[mask], alone.z_q) and not masked.z_q[~mask].any()
    assert torch.equal(masked.indices[mask], alone.indices)
    assert (masked.indices[~mask] == -1).all()
    for name in ("commitment_loss", "codebook_loss", "uneven_use"):
        torch.testing.assert_close(getattr(masked, name), getattr(alone, name))
    g = vectors(one, 3, 20, seed=6)
    ((masked.z_q * g).sum() + masked.commitment_loss).backward()
    ((alone.z_q * g[mask]).sum() + alone.commitment_loss).backward()
    torch.testing.assert_close(z.grad[mask], kept.grad)
    assert not z.grad[~mask].any()
    if not any(getattr(m, "restart", None) for m in one.modules()):
        assert_same_state(one, state(other))
    found = one.eval().encode(z.detach(), mask)
    assert torch.equal(found[mask], one.encode(kept.detach())) and (found[~mask] == -1).all()
    assert not one.lookup(found)[~mask].any()


@each(ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_gets_an_index_and_harms_no_other(make, bad):
    quantizer = made(make)
    z = vectors(quantizer, 30)
    rest = torch.arange(30) != 7
    expected = quantizer.encode(z)
    z[7, 0] = bad
    out = quantizer(z)
    assert torch.equal(out.indices[rest], expected[rest])
    assert out.z_q[rest].isfinite().all()
    assert all(t.isfinite().all() for t in state(quantizer).values())
    found = quantizer.eval().encode(z)[7]
    assert quantizer.lookup(found).isfinite().all() and (found >= 0).all()
    if math.isnan(bad):
        assert out.commitment_loss.isnan(), "nan would go unnoticed"


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_in_half_precision_has_the_tokens_of_float32(make, dtype):
    quantizer = made(make)
    z = vectors(quantizer, 200).to(dtype)
    indices, codes = quantizer.encode(z.float()), quantizer.lookup(quantizer.encode(z.float()))
    low = copy.deepcopy(quantizer).to(dtype).eval()
    assert torch.equal(low.encode(z), indices) and torch.equal(low(z).indices, indices)
    assert torch.equal(low.lookup(indices), codes)
    back = low.float()
    assert torch.equal(back.lookup(back.encode(z.float())), codes), "nothing was lost for good"
    out = made(make).to(dtype)(z.requires_grad_())
    out.z_q.float().square().sum().backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all()


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", DTYPES)
def test_indices_under_autocast_are_those_of_float32(make, dtype):
    quantizer, z = made(make), vectors(made(make), 200)
    expected = copy.deepcopy(quantizer)(z)
    with torch.autocast("cpu", dtype):
        out = quantizer(z)
        found = quantizer.eval().encode(z)
    assert torch.equal(out.indices, expected.indices)
    assert out.commitment_loss.dtype == torch.float32
    torch.testing.assert_close(out.commitment_loss, expected.commitment_loss)
    assert torch.equal(found, quantizer.encode(z))


@each(ALL)
def test_evaluation_changes_nothing(make):
    quantizer = made(make).eval()
    before = state(quantizer)
    z = vectors(quantizer, 2, 20).requires_grad_()
    out = quantizer(z)
    (out.z_q.sum() + out.commitment_loss).backward()
    quantizer(torch.full_like(z, math.nan), torch.ones(2, 20, dtype=torch.bool))
    quantizer.lookup(quantizer.encode(z))
    for leaf in leaves(quantizer):
        health(leaf.codebook)
    assert_same_state(quantizer, before, rtol=0, atol=0)


def leaves(quantizer):
    kinds = (VectorQuantizer, FiniteScalarQuantizer)
    return [module for module in quantizer.modules() if isinstance(module, kinds)]


@each(OF_EACH_KIND)
def test_health_has_its_numbers(make):
    quantizer = made(make)
    quantizer(vectors(quantizer, 500))
    for leaf in leaves(quantizer):
        found = health(leaf.codebook)
        assert 0 <= found.dead <= len(leaf.codebook) and found.oldest >= 0
        counted = isinstance(leaf, VectorQuantizer)
        assert math.isnan(found.perplexity) != counted and len(found.spread) == 7
        assert not counted or 1 <= found.perplexity <= K


@each(OF_EACH_KIND)
def test_a_saved_model_has_the_same_tokens(make, tmp_path):
    quantizer = made(make, channel_dim=1)
    model = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=quantizer)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    model(x).loss().backward()
    model.save_pretrained(tmp_path)
    back = VQVAE.from_pretrained(tmp_path)
    assert_same_state(back, state(model), rtol=0, atol=0)
    indices = model.eval().encode(x)
    assert torch.equal(back.encode(x), indices)
    assert torch.equal(back.decode(indices), model.decode(indices))
    copied = VQVAE(width=8, dim=quantizer.dim, depth=1, quantizer=make(channel_dim=1))
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied.eval().encode(x), indices)


@each(ALL)
def test_the_size_of_a_batch_changes_no_token(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 500)
    expected = quantizer.encode(z)
    for size in (1, 3, 64):
        found = torch.cat([quantizer.encode(part) for part in z.split(size)])
        assert torch.equal(found, expected), size


@each(OF_EACH_KIND)
def test_transforms_of_torch_func(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 3, 5)

    def loss(z):
        out = quantizer(z)
        return out.z_q.sin().sum() + out.commitment_loss

    assert torch.equal(torch.func.vmap(lambda z: quantizer(z).z_q)(z), quantizer(z).z_q)
    indices = quantizer.encode(z)
    assert torch.equal(torch.func.vmap(quantizer.encode)(z), indices)
    assert torch.equal(torch.func.vmap(quantizer.lookup)(indices), quantizer.lookup(indices))
    found = torch.func.vmap(torch.func.grad(loss))(z)
    for part, gradient in zip(z, found, strict=True):
        leaf = part.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(gradient, expected)
    assert torch.func.jacrev(lambda z: quantizer(z).z_q)(z[0]).isfinite().all()


@each(COMPILED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_and_evaluation_are_one_graph(make):
    torch.compiler.reset()
    eager, other = made(make), made(make)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for mode in (True, False):
        results = []
        for quantizer, call in ((eager, eager), (other, compiled)):
            quantizer.train(mode)
            z = vectors(eager, 2, 15).requires_grad_()
            torch.manual_seed(3)
            out = call(z)
            (out.z_q.square().sum() + out.commitment_loss).backward()
            results.append((*(t.detach() for t in out), z.grad))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)
    assert_same_state(eager, state(other))
    torch.compiler.reset()


class Program(nn.Module):
    """One method of a quantizer as a module, which is what export takes."""

    def __init__(self, quantizer, method):
        super().__init__()
        self.quantizer, self.method = quantizer, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.quantizer, self.method)(x)


@each({k: make for k, make in COMPILED.items() if "vq" not in k or "rotation " in k})
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_for_any_batch_are_exported_and_saved(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 9)
    indices = quantizer.encode(z)
    for method, given in (("encode", z), ("lookup", indices)):
        batch = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(Program(quantizer, method), (given,), dynamic_shapes=batch)
        content = io.BytesIO()
        torch.export.save(program, content)
        content.seek(0)
        call = torch.export.load(content).module()
        for n in (9, 4):
            assert torch.equal(call(given[:n]), getattr(quantizer, method)(given[:n]))
