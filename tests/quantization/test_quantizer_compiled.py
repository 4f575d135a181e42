"""torch.compile and torch.export of the quantizer: one graph, and what eager mode gives."""

import copy
import shutil

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from rotvq.quantization import ResidualQuantizer
from rotvq.quantization.quantizer import VectorQuantizer
from rotvq.quantization.restart import Restart
from rotvq.quantization.updates import EMA, GradientLearned, LinearMap

K, D = 12, 5

# The compiler itself uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def vectors(n: int, seed: int = 1) -> Tensor:
    return torch.randn(2, n, D, generator=torch.Generator().manual_seed(seed))


def pair_of(**options) -> tuple[VectorQuantizer, VectorQuantizer]:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, **options)
    with torch.no_grad():
        quantizer.codebook.embeddings.copy_(torch.randn(K, D))
    return quantizer, copy.deepcopy(quantizer)


def assert_same_step(eager, compiled, z: Tensor, *mask: Tensor) -> None:
    results = []
    for quantizer in (eager, compiled):
        x = z.clone().requires_grad_()
        out = quantizer(x, *mask)
        (out.z_q.square().sum() + out.commitment_loss).backward()
        results.append((*(t.detach() for t in vars(out).values()), x.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def assert_same_codebook(eager: VectorQuantizer, other: VectorQuantizer) -> None:
    for name in ("embeddings", "cluster_size", "embed_sum"):
        a, b = getattr(eager.codebook, name), getattr(other.codebook, name)
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("estimator", ["rotation", "straight_through"])
def test_training_is_one_graph(estimator, defer):
    eager, other = pair_of(defer_update=defer, estimator=estimator, update=EMA(decay=0.5))
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        assert_same_step(eager, compiled, vectors(20, seed))
        if defer:
            assert_same_codebook(eager, other)
            eager.update_codebook()
            other.update_codebook()
        assert_same_codebook(eager, other)
    assert_same_step(eager, compiled, vectors(7))  # the last batch of an epoch


@pytest.mark.parametrize("update", [EMA(decay=0.5), GradientLearned()])
def test_training_with_restart_is_one_graph(update):
    eager, other = pair_of(restart=Restart(), update=update)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    before = other.codebook.embeddings.detach().clone()
    assert_same_step(eager, compiled, vectors(2))
    used = eager(vectors(2)).indices.unique()
    moved = (other.codebook.embeddings.detach() != before).any(dim=1)
    assert moved.sum() >= 2 and len(used) < K
    nearest_vector = torch.cdist(other.codebook.embeddings.detach()[moved], vectors(2).view(-1, D))
    if isinstance(update, GradientLearned):
        assert nearest_vector.min(dim=1).values.max() < 1e-5


def test_a_decay_that_changes_is_followed_by_one_graph():
    eager, other = pair_of(update=EMA(decay=0.9))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(other, fullgraph=True, backend=counter)
    for seed in range(12):
        for quantizer in (eager, other):
            quantizer.codebook.decay = 0.9 + seed / 200
        assert_same_step(eager, compiled, vectors(20, seed))
        assert_same_codebook(eager, other)
    assert counter.frame_count == 1


def test_a_codebook_that_moves_as_a_whole_is_one_graph():
    eager, other = pair_of(update=LinearMap())
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    assert_same_step(eager, compiled, vectors(2))
    compiled(vectors(2)).codebook_loss.backward()
    assert all(parameter.grad is not None for parameter in other.parameters())


def test_training_after_data_initialization_is_one_graph():
    torch.manual_seed(0)
    eager = VectorQuantizer(K, D, init="data")
    eager(vectors(50))
    other = copy.deepcopy(eager)
    assert_same_step(eager, torch.compile(other, fullgraph=True, backend="aot_eager"), vectors(9))
    assert_same_codebook(eager, other)


@pytest.mark.parametrize("update", [EMA(), GradientLearned(), LinearMap()])
def test_the_first_step_of_data_initialization_compiles(update):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init="data", update=update)
    torch.compile(quantizer, fullgraph=True, backend="aot_eager")(50 + vectors(50))
    assert (quantizer.codebook.embeddings.mean(0) - 50).abs().max() < 1
    before = quantizer.codebook.embeddings.clone()
    torch.compile(quantizer, fullgraph=True, backend="aot_eager")(50 + vectors(50, seed=2))
    assert (quantizer.codebook.embeddings - before).norm(dim=1).max() < 1


def test_a_compiled_first_batch_without_a_usable_vector_moves_no_code():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init="data")
    before = quantizer.codebook.embeddings.clone()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    compiled(vectors(20), torch.zeros(2, 20, dtype=torch.bool))
    assert torch.equal(quantizer.codebook.embeddings, before)


def test_codes_that_were_copied_into_a_compiled_quantizer_stay():
    torch.manual_seed(0)
    eager, other = (VectorQuantizer(K, D, init="data") for _ in range(2))
    eager(vectors(50))
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for a, b in zip(other.buffers(), eager.buffers(), strict=True):
            a.copy_(b)
    for seed in range(2):
        assert_same_step(eager, compiled, vectors(20, seed))
        assert_same_codebook(eager, other)


def test_levels_that_share_a_codebook_are_one_graph():
    eager, other = pair_of(update=EMA(decay=0.5))
    pair = []
    for quantizer in (eager, other):
        twin = VectorQuantizer(K, D)
        twin.codebook = quantizer.codebook
        pair.append(ResidualQuantizer([quantizer, twin]))
    compiled = torch.compile(pair[1], fullgraph=True, backend="aot_eager")
    for seed in range(2):
        assert_same_step(pair[0], compiled, vectors(20, seed))
        assert_same_codebook(eager, other)


def test_evaluation_is_one_graph():
    eager, other = pair_of()
    compiled = torch.compile(other.eval(), fullgraph=True, backend="aot_eager")
    eager.eval()
    mask = torch.arange(20).expand(2, 20) % 3 > 0
    for z in (vectors(20), vectors(20).bfloat16()):
        out = compiled(z, mask)
        torch.testing.assert_close(vars(out), vars(eager(z, mask)))
        assert torch.equal(
            torch.compile(other.encode, fullgraph=True, backend="aot_eager")(z), eager.encode(z)
        )
    lookup = torch.compile(other.lookup, fullgraph=True, backend="aot_eager")
    assert torch.equal(lookup(out.indices), eager.lookup(out.indices))
    assert_same_codebook(eager, other)


@pytest.mark.xfail(strict=True, reason="a compiled graph does not see that a backward reruns it")
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_compiled_quantizer_accumulates_once(reentrant):
    eager, other = pair_of(defer_update=True)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    x = vectors(20).requires_grad_()
    eager(x)
    checkpoint(lambda z: compiled(z).z_q, x, use_reentrant=reentrant).square().sum().backward()
    eager.update_codebook()
    other.update_codebook()
    assert_same_codebook(eager, other)


@pytest.mark.skipif(shutil.which("c++") is None, reason="the compiler's back end needs a C++ one")
def test_training_through_the_default_backend():
    eager, other = pair_of(update=EMA(decay=0.5))
    compiled = torch.compile(other, fullgraph=True)
    for seed in range(2):
        assert_same_step(eager, compiled, vectors(20, seed))
        assert_same_codebook(eager, other)


class Encode(nn.Module):
    def __init__(self, quantizer: VectorQuantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor) -> Tensor:
        return self.quantizer.encode(z)


class Lookup(Encode):
    def forward(self, indices: Tensor) -> Tensor:
        return self.quantizer.lookup(indices)


def test_encode_and_lookup_are_exported_for_any_batch():
    quantizer, _ = pair_of()
    quantizer.eval()
    batch = {0: torch.export.Dim("batch")}
    z = vectors(20).transpose(0, 1).contiguous()
    encode = torch.export.export(Encode(quantizer), (z,), dynamic_shapes=(batch,)).module()
    indices = quantizer.encode(z)
    lookup = torch.export.export(Lookup(quantizer), (indices,), dynamic_shapes=(batch,)).module()
    for n in (20, 3):
        assert torch.equal(encode(z[:n]), indices[:n])
        assert torch.equal(lookup(indices[:n]), quantizer.lookup(indices[:n]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("channel_dim", [-1, 1, -2])
def test_the_old_onnx_exporter(channel_dim, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    quantizer, _ = pair_of(channel_dim=channel_dim)
    z = vectors(20).view(10, 4, D).movedim(-1, channel_dim).contiguous()
    indices = quantizer.eval().encode(z)
    for program, given, expected in (
        (Encode(quantizer), z, indices),
        (Lookup(quantizer), indices, quantizer.lookup(indices)),
    ):
        path = tmp_path / "program.onnx"
        how = {"dynamo": False, "input_names": ["x"], "output_names": ["y"], "verbose": False}
        axes = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(program, (given[:7],), path, dynamic_axes=axes, **how)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"x": given.numpy()})
        assert torch.equal(torch.from_numpy(found), expected)
