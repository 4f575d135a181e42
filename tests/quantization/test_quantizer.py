"""What the quantizer returns and refuses; nearest codes by brute force in float64."""

import pytest
import torch
from torch import Tensor, nn

import rotvq
from rotvq.errors import UserError
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.restart import Restart
from rotvq.quantization.updates import EMA, GradientLearned

DISCRETE = sorted(set(ESTIMATORS) - {"reflection"})
K, D = 12, 5


def make(**options) -> VectorQuantizer:
    """A quantizer whose codes are spread like the data, so that many of them are in use."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(options.pop("codebook_size", K), options.pop("dim", D), **options)
    with torch.no_grad():
        quantizer.codebook.embeddings.copy_(torch.randn(quantizer.codebook.embeddings.shape))
    return quantizer


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(z: Tensor, e: Tensor) -> Tensor:
    z, e = z.double(), e.double()
    return torch.stack([(z - code).square().sum(-1) for code in e], dim=-1).argmin(dim=-1)


def state(quantizer: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, those that are not saved included."""
    tensors = [*quantizer.named_parameters(), *quantizer.named_buffers()]
    return {name: value.detach().clone() for name, value in tensors}


def assert_same_state(a: nn.Module, b: nn.Module | dict[str, Tensor], **tolerance) -> None:
    b = b if isinstance(b, dict) else state(b)
    a = state(a)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def test_it_is_exported_and_has_the_papers_defaults():
    assert rotvq.VectorQuantizer is VectorQuantizer
    quantizer = VectorQuantizer()
    assert quantizer.codebook.embeddings.shape == (1024, 256)
    assert quantizer.codebook.update == EMA(decay=0.99)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(D,), (7, D), (2, 3, 4, D)])
@pytest.mark.parametrize("estimator", DISCRETE)
def test_the_output_is_the_nearest_code_bit_for_bit(estimator, shape, training):
    if len(shape) == 1:
        shape = (1, D)  # one token
    quantizer = make(estimator=estimator).train(training)
    e, z = quantizer.codebook.embeddings.clone(), vectors(*shape)
    out = quantizer(z)
    assert isinstance(out, Quantized)
    assert out.indices.dtype == torch.int64 and out.indices.shape == shape[:-1]
    assert torch.equal(out.indices, brute_force(z, e))
    assert out.z_q.dtype == z.dtype and torch.equal(out.z_q, e[out.indices])


def test_reflection_is_not_its_code():
    quantizer = make(estimator="reflection").eval()
    z = vectors(9, D)
    out = quantizer(z)
    e = quantizer.codebook.embeddings
    assert torch.equal(out.indices, brute_force(z, e))
    direction = nn.functional.normalize(e[out.indices].double(), dim=-1)
    torch.testing.assert_close(
        out.z_q.double(), z.double().norm(dim=-1, keepdim=True) * direction, rtol=1e-5, atol=1e-6
    )
    assert (out.z_q - e[out.indices]).abs().max() > 0.1


@pytest.mark.parametrize("shape", [(4, D), (4, D, 6), (2, D, 3, 4), (2, D, 2, 3, 2)])
def test_channels_may_come_second(shape):
    first, last = make(channel_dim=1), make()
    z = vectors(*shape).requires_grad_()
    moved = z.detach().movedim(1, -1).contiguous().requires_grad_()
    a, b = first(z), last(moved)
    assert a.z_q.shape == shape
    assert torch.equal(a.z_q.movedim(1, -1), b.z_q) and torch.equal(a.indices, b.indices)
    torch.testing.assert_close(a.commitment_loss, b.commitment_loss)
    g = vectors(*shape, seed=2)
    a.z_q.backward(g)
    b.z_q.backward(g.movedim(1, -1))
    torch.testing.assert_close(z.grad.movedim(1, -1), moved.grad)
    assert torch.equal(first.lookup(a.indices).movedim(1, -1), last.lookup(b.indices))
    assert_same_state(first, last)


def test_a_gap_in_memory_makes_no_difference():
    quantizer = make().eval()
    z = vectors(6, 2 * D)[:, ::2]
    assert torch.equal(quantizer(z).z_q, quantizer(z.contiguous()).z_q)
    channels_last = vectors(2, D, 4, 4).to(memory_format=torch.channels_last)
    second = make(channel_dim=1).eval()
    assert torch.equal(second(channels_last).z_q, second(channels_last.contiguous()).z_q)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_have_the_indices_of_float32(dtype):
    quantizer = make(codebook_size=200, dim=16).eval()
    z = vectors(500, 16).to(dtype).requires_grad_()
    out = quantizer(z)
    assert torch.equal(out.indices, brute_force(z, quantizer.codebook.embeddings))
    assert out.z_q.dtype == dtype
    assert torch.equal(out.z_q, quantizer.codebook.embeddings[out.indices].to(dtype))
    assert out.commitment_loss.dtype == out.codebook_loss.dtype == torch.float32
    gap = (z.double() - quantizer.codebook.embeddings[out.indices].double()).square().mean()
    torch.testing.assert_close(out.commitment_loss.double(), gap, rtol=1e-5, atol=0)
    (out.z_q.square().sum() + out.commitment_loss).backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_has_the_values_of_float32(dtype):
    plain, inside = make(codebook_size=200, dim=16), make(codebook_size=200, dim=16)
    z = vectors(500, 16).requires_grad_()
    w = z.detach().clone().requires_grad_()
    a = plain(z)
    with torch.autocast("cpu", dtype=dtype):
        b = inside(w)
    for x, y in zip(vars(a).values(), vars(b).values(), strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y)
    (a.z_q.square().sum() + a.commitment_loss).backward()
    (b.z_q.square().sum() + b.commitment_loss).backward()
    assert torch.equal(z.grad, w.grad)
    assert_same_state(plain, inside, rtol=0, atol=0)
    # What a convolution under autocast hands over is of low precision; its search is not.
    half = z.detach().to(dtype)
    plain.eval()
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(plain(half).indices, plain.encode(half.float()))


@pytest.mark.parametrize("value", [1e-19, 1e19])
def test_extreme_vectors_give_codes_and_finite_gradients(value):
    quantizer = make().eval()
    z = torch.cat([value * vectors(4, D), torch.zeros(1, D), -quantizer.codebook.embeddings[:2]])
    z.requires_grad_()
    out = quantizer(z)
    out.z_q.sum().backward()
    assert torch.equal(out.z_q, quantizer.codebook.embeddings[out.indices])
    assert z.grad.isfinite().all()


def test_opposed_and_zero_codes_are_finite():
    quantizer = make(codebook_size=2, dim=3).eval()
    with torch.no_grad():
        quantizer.codebook.embeddings.copy_(torch.tensor([[1.0, -2.0, 0.5], [50.0, 50.0, 50.0]]))
    z = torch.tensor([[-1.0, 2.0, -0.5], [0.0, 0, 0], [-1.0, 2.0, -0.5000001]], requires_grad=True)
    out = quantizer(z)
    assert out.indices.tolist() == [0, 0, 0]
    (out.z_q.sum() + out.commitment_loss).backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_one_code_and_one_token(training):
    quantizer = make(codebook_size=1, dim=3).train(training)
    e = quantizer.codebook.embeddings.clone()
    out = quantizer(vectors(1, 1, 3))
    assert out.indices.tolist() == [[0]] and torch.equal(out.z_q[0], e)
    assert quantizer.codebook.embeddings.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"restart": Restart()}, {"init": "data"}])
def test_no_token_at_all(options):
    quantizer = make(**options)
    before = quantizer.codebook.embeddings.clone()
    out = quantizer(vectors(0, 4, D))
    assert out.z_q.shape == (0, 4, D) and out.indices.shape == (0, 4)
    torch.testing.assert_close(quantizer.codebook.embeddings, before)
    assert out.commitment_loss.isfinite() and out.codebook_loss.isfinite()


def test_lookup_gives_codes_and_zeros_for_minus_one():
    quantizer = make(channel_dim=1)
    indices = torch.tensor([[0, -1, K - 1], [3, 3, -1]])
    codes = quantizer.lookup(indices)
    assert codes.shape == (2, D, 3)
    for b in range(2):
        for t in range(3):
            i = int(indices[b, t])
            expected = quantizer.codebook.embeddings[i] if i >= 0 else torch.zeros(D)
            assert torch.equal(codes[b, :, t], expected)


def assert_one_line(error: pytest.ExceptionInfo, *mentions: object) -> None:
    message = str(error.value)
    assert "\n" not in message and message
    for mention in mentions:
        assert str(mention) in message, message


@pytest.mark.parametrize("index", [-2, K, 10**12])
def test_lookup_refuses_what_is_no_index(index):
    with pytest.raises(UserError) as error:
        make().lookup(torch.tensor([0, index]))
    assert_one_line(error, index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_lookup_refuses_other_dtypes(dtype):
    with pytest.raises(UserError) as error:
        make().lookup(torch.ones(3).to(dtype))
    assert_one_line(error, "int64", dtype)


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_vectors_are_refused(method):
    call = getattr(make(), method)
    with pytest.raises(UserError) as error:
        call(vectors(4, D + 2))
    assert_one_line(error, D, D + 2)
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        with pytest.raises(UserError) as error:
            call(torch.ones(4, D).to(dtype))
        assert_one_line(error, dtype)


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_channels_at_another_dimension_are_refused(method):
    call = getattr(make(channel_dim=1), method)
    with pytest.raises(UserError) as error:
        call(vectors(2, D + 1, 4, D))
    assert_one_line(error, D, D + 1)
    with pytest.raises(UserError):
        call(vectors(D))


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_masks_are_refused(method):
    call = getattr(make(), method)
    z = vectors(2, 4, D)
    for mask in (torch.ones(2, 3), torch.ones(8), torch.ones(2, 4, D), torch.ones(2, 4, 1)):
        with pytest.raises(UserError) as error:
            call(z, mask.bool())
        assert_one_line(error, (2, 4), tuple(mask.shape))
    with pytest.raises(UserError) as error:
        call(z, torch.ones(2, 4))
    assert_one_line(error, "bool", torch.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "rotatoin"},
        {"codebook_size": 0},
        {"dim": 0},
        {"codebook_size": -3},
        {"init": "kmeans"},
    ],
)
def test_wrong_options_are_refused_and_named(options):
    with pytest.raises(UserError) as error:
        VectorQuantizer(**options)
    assert_one_line(error, next(iter(options.values())))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
def test_wrong_decays_are_refused(decay):
    for update in (EMA, GradientLearned):
        with pytest.raises(UserError) as error:
            update(decay=decay)
        assert_one_line(error, decay)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 2.0, float("nan")])
def test_wrong_thresholds_are_refused(threshold):
    with pytest.raises(UserError) as error:
        Restart(threshold=threshold)
    assert_one_line(error, threshold)
