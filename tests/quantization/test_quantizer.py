"""What the quantizer returns and refuses; nearest codes by brute force in float64."""

import re

import pytest
import torch
from every_quantizer import assert_same_state
from one_quantizer import D, K, make, vectors
from torch import Tensor, nn

import rotvq
from rotvq.errors import UserError
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.restart import Restart
from rotvq.quantization.updates import EMA, UPDATES

DISCRETE = sorted(set(ESTIMATORS) - {"reflection"})


def brute_force(z: Tensor, e: Tensor) -> Tensor:
    z, e = z.double(), e.double()
    return torch.stack([(z - code).square().sum(-1) for code in e], dim=-1).argmin(dim=-1)


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


def test_non_contiguous_memory_makes_no_difference():
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


@pytest.mark.parametrize("index", [-2, K, 10**12])
def test_lookup_refuses_indices_out_of_range(index):
    with pytest.raises(UserError, match=rf"^indices: expected values from 0 to 11 .* {index}\b"):
        make().lookup(torch.tensor([0, index]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_lookup_refuses_other_dtypes(dtype):
    with pytest.raises(UserError, match=f"^indices: expected int64; got {dtype}"):
        make().lookup(torch.ones(3).to(dtype))


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_vectors_are_refused(method):
    call = getattr(make(), method)
    with pytest.raises(UserError, match=r"^z: expected 5 channels at .* got shape \(4, 7\)"):
        call(vectors(4, D + 2))
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        with pytest.raises(UserError, match=f"^z: expected a floating dtype; got {dtype}"):
            call(torch.ones(4, D).to(dtype))


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_channels_at_another_dimension_are_refused(method):
    call = getattr(make(channel_dim=1), method)
    with pytest.raises(
        UserError, match=r"^z: expected 5 channels at dimension 1; .* \(2, 6, 4, 5\)"
    ):
        call(vectors(2, D + 1, 4, D))
    with pytest.raises(UserError, match=r"^z: expected 2 or more dimensions .* got shape \(5,\)"):
        call(vectors(D))


@pytest.mark.parametrize("method", ["forward", "encode"])
def test_wrong_masks_are_refused(method):
    call = getattr(make(), method)
    z = vectors(2, 4, D)
    for shape in ((2, 3), (8,), (2, 4, D), (2, 4, 1)):
        message = (
            rf"^mask: expected bool of shape \(2, 4\); got torch.bool .*{re.escape(str(shape))}"
        )
        with pytest.raises(UserError, match=message):
            call(z, torch.ones(shape, dtype=torch.bool))
    with pytest.raises(
        UserError, match=r"^mask: expected bool of shape \(2, 4\); got torch.float32"
    ):
        call(z, torch.ones(2, 4))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"estimator": "rotatoin"}, "^estimator: expected one of .*rotation, .* got 'rotatoin'"),
        ({"codebook_size": 0}, "^codebook: expected size >= 1 and dim >= 1; got 0 and 256"),
        ({"codebook_size": -3}, "^codebook: expected size >= 1 and dim >= 1; got -3 and 256"),
        ({"dim": 0}, "^codebook: expected size >= 1 and dim >= 1; got 1024 and 0"),
        ({"init": "kmeans"}, "^init: expected 'uniform' or 'data'; got 'kmeans'"),
    ],
)
def test_wrong_options_are_refused_and_named(options, message):
    with pytest.raises(UserError, match=message):
        VectorQuantizer(**options)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_wrong_decays_are_refused(update, decay):
    with pytest.raises(UserError, match=f"^decay: expected 0 <= decay < 1; got {decay}"):
        update(decay=decay)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 2.0, float("nan")])
def test_wrong_thresholds_are_refused(threshold):
    with pytest.raises(
        UserError, match=f"^restart threshold: .* between 0 and 1/3; got {threshold}"
    ):
        Restart(threshold=threshold)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"update": "ema"}, r"update: expected EMA\(\), .*; got 'ema'"),
        ({"restart": True}, r"restart: expected Restart\(\) or None; got True"),
        ({"search": "sampled"}, "search: expected .*; got 'sampled'"),
    ],
)
def test_settings_that_are_objects_are_named(wrong, said):
    with pytest.raises(UserError, match=said):
        VectorQuantizer(8, 4, **wrong)


def test_indices_of_numpy_are_named():
    with pytest.raises(UserError, match=r"indices: expected a tensor; got a ndarray. Use torch\."):
        VectorQuantizer(8, 4).lookup(torch.zeros(2, dtype=torch.int64).numpy())
