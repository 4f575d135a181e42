"""Every quantizer computes in float32: when it is cast to half precision, and under autocast."""

import copy

import pytest
import torch
from every_quantizer import DISCRETE, HALF, OF_EACH_KIND, each, made, state, vectors

from rotvq.quantization import VectorQuantizer


def with_rounded_parameters(quantizer, dtype):
    """The float32 layer whose learned codes and maps have values of a lower precision."""
    rounded = copy.deepcopy(quantizer)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return rounded


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", HALF)
def test_a_cast_quantizer_has_the_tokens_of_float32_with_its_codes(make, dtype):
    quantizer = made(make)
    z = vectors(quantizer, 200).to(dtype)
    expected = with_rounded_parameters(quantizer, dtype).eval()
    indices = expected.encode(z.float())
    codes = expected.lookup(indices)
    low = copy.deepcopy(quantizer).to(dtype).eval()
    out = low(z)
    assert torch.equal(low.encode(z), indices) and torch.equal(out.indices, indices)
    assert torch.equal(low.lookup(indices), codes)
    torch.testing.assert_close(out.commitment_loss, expected(z.float()).commitment_loss)


@each(DISCRETE)
@pytest.mark.parametrize("dtype", [torch.float64, *HALF])
def test_values_of_a_cast_quantizer_are_its_codes_bit_for_bit(make, dtype):
    quantizer = made(make).to(dtype).eval()
    z = vectors(quantizer, 200).to(dtype)
    out = quantizer(z)
    assert out.z_q.dtype == dtype and torch.equal(quantizer.encode(z), out.indices)
    assert torch.equal(quantizer.lookup(out.indices).to(dtype), out.z_q)
    if isinstance(quantizer, VectorQuantizer):
        assert torch.equal(quantizer.codebook.embeddings[out.indices].to(dtype), out.z_q)


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", HALF)
def test_parameters_follow_a_cast_and_statistics_stay_in_float32(make, dtype):
    quantizer = made(make).to(dtype)
    z = vectors(quantizer, 200).to(dtype).requires_grad_()
    for _ in range(2):
        out = quantizer(z)
        (out.z_q.float().square().sum() + out.codebook_loss).backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all()
    assert out.codebook_loss.dtype == out.commitment_loss.dtype == torch.float32
    for parameter in quantizer.parameters():
        assert parameter.dtype == parameter.grad.dtype == dtype
    assert all(b.dtype in (torch.float32, torch.int64) for b in quantizer.buffers())
    for codebook in quantizer.codebooks:
        assert codebook.embeddings.dtype == (
            dtype if codebook._parameters.get("embeddings") is not None else torch.float32
        )


@each({name: make for name, make in OF_EACH_KIND.items() if not list(made(make).parameters())})
@pytest.mark.parametrize("dtype", HALF)
def test_a_cast_takes_nothing_from_a_quantizer_without_parameters(make, dtype):
    quantizer = made(make)
    before = state(quantizer)
    for name, t in state(quantizer.to(dtype)).items():
        assert torch.equal(t, before[name]), name


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradient_of_cast_codes_is_summed_in_float32(dtype):
    quantizer = made(OF_EACH_KIND["vq rotation gradient"]).to(dtype)
    z = vectors(quantizer, 1).expand(4000, -1)  # summed in bfloat16 this would stop at 256
    out = quantizer(z)
    (out.codebook_loss * z.numel()).backward()
    code = quantizer.codebook.embeddings.detach()[out.indices[0]].double()
    expected = 2 * 4000 * (code - z[0].double())
    found = quantizer.codebook.embeddings.grad[out.indices[0]].double()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@each(OF_EACH_KIND)
@pytest.mark.parametrize("dtype", HALF)
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
