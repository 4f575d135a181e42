"""Estimators against plane rotations that are built in float64 from the angle, not from mirrors.

R = I + (cos t - 1)(uu' + vv') + sin t (vu' - uv'), u = z/|z| and v its partner in the plane.
"""

import math

import pytest
import torch
from torch import Tensor

from rotvq.quantization import estimators
from rotvq.quantization.estimators import (
    ESTIMATORS,
    LAMBDA_MAX,
    LIFT,
    lifted_rotation,
    reflection,
    rescaling,
    rotation,
    rotation_without_rescaling,
    straight_through,
)

DISCRETE = [straight_through, rescaling, rotation_without_rescaling, rotation, lifted_rotation]
ROTATING = [rotation_without_rescaling, rotation]
ANGLES = [0.0, 1e-6, 1e-4, 1e-2, 0.5, math.pi / 2, 2.0, 3.0, math.pi - 0.05]
EPS32 = 2.0**-23


def name(estimator) -> str:
    return estimator.__name__


def plane_rotation(z: Tensor, q: Tensor) -> Tensor:
    """The (d, d) float64 rotation by the angle from z to q in their plane, for nonzero z and q."""
    z, q = z.double() / z.double().abs().max(), q.double() / q.double().abs().max()
    u = z / z.norm()
    cosine = torch.dot(u, q / q.norm())
    w = q / q.norm() - cosine * u
    w = w - torch.dot(u, w) * u
    if w.norm() < 1e-14:
        assert cosine > 0, "the oracle has no plane for exact opposition"
        return torch.eye(len(z), dtype=torch.float64)
    v, angle = w / w.norm(), torch.atan2(w.norm(), cosine)
    plane = torch.outer(u, u) + torch.outer(v, v)
    turn = torch.outer(v, u) - torch.outer(u, v)
    return torch.eye(len(z), dtype=torch.float64) + (angle.cos() - 1) * plane + angle.sin() * turn


def factor(z: Tensor, q: Tensor) -> float:
    """The rescaling in float64, clipped."""
    return min((q.double().norm() / z.double().norm()).item(), LAMBDA_MAX)


def pair(angle: float, d: int, z_norm: float = 1.0, q_norm: float = 1.0, seed: int = 0):
    """Two float32 vectors of the given norms that make the given angle."""
    g = torch.Generator().manual_seed(seed)
    u, v = torch.linalg.qr(torch.randn(d, 2, generator=g, dtype=torch.float64)).Q.T
    z, q = z_norm * u, q_norm * (math.cos(angle) * u + math.sin(angle) * v)
    return z.float(), q.float()


def backward(estimator, z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    estimator(z, q).backward(g)
    assert z.grad is not None and z.grad.dtype == z.dtype
    return z.grad


def jacobian(estimator, z: Tensor, q: Tensor) -> Tensor:
    """The (d, d) matrix J with gradient J'g, read off by backward of the unit vectors."""
    d = len(z)
    return backward(estimator, z.expand(d, d), q.expand(d, d), torch.eye(d, dtype=z.dtype))


def test_the_registry_holds_every_estimator_under_its_name():
    for estimator in [*DISCRETE, reflection]:
        assert ESTIMATORS[name(estimator)] is estimator


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("estimator", DISCRETE, ids=name)
def test_the_forward_value_is_the_code_bit_for_bit(estimator, dtype):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(4, 5, 7, generator=g).to(dtype)
    q = torch.randn(4, 5, 7, generator=g)
    out = estimator(z, q)
    assert out.dtype == dtype and out.shape == z.shape
    assert torch.equal(out, q.to(dtype))


@pytest.mark.parametrize("estimator", [*DISCRETE, reflection], ids=name)
def test_no_gradient_reaches_the_code(estimator):
    z, q = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4).requires_grad_()
    estimator(z, q).square().sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0
    assert q.grad is None or not q.grad.any()


@pytest.mark.parametrize("estimator", DISCRETE, ids=name)
def test_the_inputs_are_left_alone(estimator):
    z, q, g = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    before = z.clone(), q.clone(), g.clone()
    out = estimator(leaf := z.clone().requires_grad_(), q)
    out.backward(g)
    assert all(torch.equal(a, b) for a, b in zip(before, (leaf.detach(), q, g), strict=True))


@pytest.mark.parametrize("d", [2, 3, 64])
@pytest.mark.parametrize("angle", ANGLES)
def test_the_rotations_backward_is_the_explicit_matrix(angle, d):
    z, q = pair(angle, d, z_norm=3.0, q_norm=0.7)
    R = plane_rotation(z, q)
    # The sum of unit vectors is rounded to eps, and has length ~ pi - angle.
    tolerance = 16 * EPS32 / min(1.0, math.pi - angle)
    torch.testing.assert_close(
        jacobian(rotation_without_rescaling, z, q).double(), R, rtol=0, atol=tolerance
    )
    torch.testing.assert_close(
        jacobian(rotation, z, q).double(), factor(z, q) * R, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("angle", ANGLES)
def test_float64_input_is_computed_in_float64(angle):
    z, q = (x.double() for x in pair(angle, 5, z_norm=0.3, q_norm=2.0))
    tolerance = 1e-13 / min(1.0, math.pi - angle) + 1e-14 / max(math.sin(angle), 1e-6)
    torch.testing.assert_close(
        jacobian(rotation, z, q), factor(z, q) * plane_rotation(z, q), rtol=0, atol=10 * tolerance
    )


@pytest.mark.parametrize("d", [2, 3, 64])
@pytest.mark.parametrize("angle", ANGLES)
def test_the_lifted_rotation_is_a_rotation_in_one_dimension_more(angle, d):
    z, q = pair(angle, d, z_norm=3.0, q_norm=0.7)
    last = torch.tensor([LIFT * 0.7])
    z_up, q_up = torch.cat([z, last]), torch.cat([q, last])
    expected = (factor(z_up, q_up) * plane_rotation(z_up, q_up))[:d, :d]
    torch.testing.assert_close(
        jacobian(lifted_rotation, z, q).double(), expected, rtol=0, atol=64 * EPS32
    )


def test_the_lifted_rotation_bounds_the_angle_and_forgives_a_code_at_zero():
    g = torch.randn(1, 5)
    q = torch.randn(1, 5)
    turned = backward(lifted_rotation, -q, q, g)
    assert torch.cosine_similarity(turned, g).item() > 0.5
    assert backward(lifted_rotation, q, 0 * q, g).isfinite().all()


def test_straight_through_passes_the_gradient_untouched():
    z, q, g = torch.randn(3, 9, 4)
    assert torch.equal(backward(straight_through, z, q, g), g)


def test_rescaling_multiplies_the_gradient_by_the_ratio_of_norms():
    z, q, g = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(1))
    expected = [factor(a, b) * c.double() for a, b, c in zip(z, q, g, strict=True)]
    torch.testing.assert_close(
        backward(rescaling, z, q, g).double(), torch.stack(expected), rtol=1e-5, atol=0
    )


def test_leading_dimensions_are_independent_vectors():
    z, q, g = torch.randn(3, 2, 3, 5, 6, generator=torch.Generator().manual_seed(2))
    whole = backward(rotation, z, q, g)
    for i in [(0, 0, 0), (1, 2, 4)]:
        torch.testing.assert_close(whole[i], backward(rotation, z[i], q[i], g[i]))


@pytest.mark.parametrize("estimator", DISCRETE, ids=name)
def test_many_vectors_are_treated_as_each_alone(estimator):
    z, q, g = torch.randn(3, 3001, 256, generator=torch.Generator().manual_seed(2))
    whole = backward(estimator, z, q, g)
    for i in (0, 1023, 1024, 2999, 3000):
        torch.testing.assert_close(whole[i], backward(estimator, z[i], q[i], g[i]))
    assert backward(estimator, z[:0], q[:0], g[:0]).shape == (0, 256)


def test_expanded_and_transposed_tensors_are_accepted():
    z = torch.randn(6, 4).T.requires_grad_()
    q = torch.randn(6).expand(4, 6)
    z.retain_grad()
    rotation(z, q).sum().backward()  # the gradient of a sum has stride 0
    expected = backward(rotation, z.detach().contiguous(), q.contiguous(), torch.ones(4, 6))
    torch.testing.assert_close(z.grad, expected)


@pytest.mark.parametrize("ratio", [LAMBDA_MAX / 2, LAMBDA_MAX * 2, 1e12])
@pytest.mark.parametrize("estimator", [rescaling, rotation], ids=name)
def test_the_factor_is_clipped(estimator, ratio):
    z, q = pair(0.4, 8, z_norm=1.0 / ratio, q_norm=1.0)
    R = plane_rotation(z, q) if estimator is rotation else torch.eye(8, dtype=torch.float64)
    expected = min(ratio, LAMBDA_MAX)
    torch.testing.assert_close(
        jacobian(estimator, z, q).double() / expected, R, rtol=0, atol=32 * EPS32
    )


@pytest.mark.parametrize("d", [1, 2, 16])
def test_a_zero_vector_passes_the_gradient_untouched(d):
    zero, g = torch.zeros(3, d), torch.randn(3, d)
    for q in (torch.randn(3, d), torch.zeros(3, d)):
        for estimator in set(DISCRETE) - {lifted_rotation}:
            assert torch.equal(estimator(zero, q), q)
            torch.testing.assert_close(backward(estimator, zero, q, g), g, rtol=1e-6, atol=0)


@pytest.mark.parametrize("d", [1, 2, 16])
def test_a_zero_code_stops_a_rescaled_gradient(d):
    z, g, zero = torch.randn(3, d), torch.randn(3, d), torch.zeros(3, d)
    for estimator in DISCRETE:
        assert torch.equal(estimator(z, zero), zero)
        scaled = estimator in (rescaling, rotation, lifted_rotation)
        expected = torch.zeros_like(g) if scaled else g
        torch.testing.assert_close(backward(estimator, z, zero, g), expected, rtol=1e-6, atol=0)


def test_one_dimension_is_the_sign():
    z = torch.tensor([[2.0], [2.0], [-2.0], [-2.0]])
    q = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    g = torch.tensor([[3.0], [3.0], [3.0], [3.0]])
    torch.testing.assert_close(
        backward(rotation, z, q, g), torch.tensor([[1.5], [-1.5], [-1.5], [1.5]])
    )


@pytest.mark.parametrize("d", [2, 3, 64, 256])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_exact_opposition_reflects_along_the_axis(d, scale):
    z = torch.randn(d, generator=torch.Generator().manual_seed(d))
    q = -scale * z
    unit = z.double() / z.double().norm()
    mirror = torch.eye(d, dtype=torch.float64) - 2 * torch.outer(unit, unit)
    assert torch.equal(rotation(z, q), q)
    torch.testing.assert_close(jacobian(rotation, z, q).double() / scale, mirror, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 3, 64])
@pytest.mark.parametrize("short", [10.0**-k for k in range(1, 17)])
def test_near_opposition_is_finite_orthogonal_and_maps_direction_to_direction(short, d, dtype):
    z, q = (x.to(dtype) for x in pair(math.pi - short, d, z_norm=2.0, q_norm=2.0, seed=d))
    R = jacobian(rotation_without_rescaling, z, q).double()
    assert R.isfinite().all()
    # Below the threshold the fallback's error is the distance to opposition itself; above it, the
    # error is that of rounding divided by that distance.
    tolerance = 8 * max(float(estimators.ANTIPARALLEL), 4 * EPS32 / float(estimators.ANTIPARALLEL))
    assert tolerance < 0.05
    identity = torch.eye(d, dtype=torch.float64)
    torch.testing.assert_close(R.T @ R, identity, rtol=0, atol=tolerance)
    unit = z.double() / z.double().norm()
    torch.testing.assert_close(R @ unit, q.double() / q.double().norm(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, math.pi])
@pytest.mark.parametrize("q_scale", [1e-19, 1.0, 1e19])
@pytest.mark.parametrize("z_scale", [1e-19, 1.0, 1e19])
def test_elements_near_the_ends_of_float32(z_scale, q_scale, angle):
    d = 16
    z, q = pair(angle, d, z_norm=4.0 * z_scale, q_norm=4.0 * q_scale)
    if angle == math.pi:
        q = -z * (q_scale / z_scale)
        unit = z.double() / z.double().norm()
        R = torch.eye(d, dtype=torch.float64) - 2 * torch.outer(unit, unit)
    else:
        R = plane_rotation(z, q)
    assert torch.equal(rotation(z, q), q)
    torch.testing.assert_close(
        jacobian(rotation_without_rescaling, z, q).double(), R, rtol=0, atol=1e-5
    )
    scale = factor(z, q)
    # A factor of 1e-38 is below float32's normal numbers; there the gradient may round to zero.
    torch.testing.assert_close(
        jacobian(rotation, z, q).double(), scale * R, rtol=0, atol=1e-5 * scale + 1e-37
    )


@pytest.mark.parametrize("q_value", [0.0, 1e-45, 1e-38, 1.0, 3.4e38])
@pytest.mark.parametrize("z_value", [1e-45, 1e-38, 1e-20, 1e20, 3.4e38])
def test_the_gradient_is_finite_for_every_finite_input(z_value, q_value):
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [-1, -1, -1, -1]])
    z, q = z_value * torch.ones(3, 4), q_value * signs
    for estimator in DISCRETE:
        assert torch.equal(estimator(z, q), q)
        for g in (torch.ones(3, 4), torch.full((3, 4), -1e30)):
            assert backward(estimator, z, q, g).isfinite().all(), name(estimator)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, 3.0])
def test_half_precision_inputs_are_rotated_in_float32(angle, dtype):
    z, q = pair(angle, 32, z_norm=2.0, q_norm=5.0)
    z = z.to(dtype)
    expected = factor(z, q) * plane_rotation(z, q)
    # One rounding of the result, to half a unit in the last place, and nothing else.
    rounding = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(
        jacobian(rotation, z, q).double(), expected, rtol=1.01 * rounding, atol=1e-5
    )


def test_float16_at_its_limit():
    z = torch.full((2, 64), 6e4, dtype=torch.float16)  # a norm of 4.8e5 is beyond float16
    q = torch.full((2, 64), 6e4)
    q[1] *= -1
    g = torch.ones(2, 64, dtype=torch.float16)
    torch.testing.assert_close(backward(rescaling, z, q, g), g)
    torch.testing.assert_close(backward(rotation, z, q, g), torch.stack([g[0], -g[1]]))


@pytest.mark.parametrize("estimator", DISCRETE, ids=name)
def test_a_code_beyond_float16_has_a_finite_gradient(estimator):
    z, q = torch.ones(1, 8, dtype=torch.float16), torch.full((1, 8), 1e5)
    assert torch.equal(estimator(z, q), q.half())
    g = torch.full((1, 8), 3e4, dtype=torch.float16)
    assert backward(estimator, z, q, g).isfinite().all()


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("estimator", DISCRETE, ids=name)
def test_autocast_changes_nothing(estimator, autocast):
    z, q, g = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(3))
    plain = backward(estimator, z, q, g)
    with torch.autocast("cpu", dtype=autocast):
        out = estimator(z, q)
        inside = backward(estimator, z, q, g)
    assert out.dtype == torch.float32 and torch.equal(out, q)
    assert torch.equal(inside, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reflection_keeps_the_norm_of_z_and_takes_the_direction_of_q(dtype):
    g = torch.Generator().manual_seed(4)
    z, q = torch.randn(9, 16, generator=g).to(dtype), torch.randn(9, 16, generator=g)
    z64, q64 = z.double(), q.double()
    expected = z64.norm(dim=-1, keepdim=True) * q64 / q64.norm(dim=-1, keepdim=True)
    out = reflection(z, q)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=torch.finfo(dtype).eps, atol=8 * EPS32)
    upstream = torch.randn(9, 16, generator=g).to(dtype)
    assert torch.equal(backward(reflection, z, q, upstream), upstream)


def test_reflection_is_finite_where_a_direction_is_missing_or_opposed():
    v = torch.randn(1, 4)
    for z, q in [(0 * v, v), (v, 0 * v), (0 * v, 0 * v), (v, -v), (1e19 * v, v), (1e-19 * v, v)]:
        out = reflection(z, q)
        assert out.isfinite().all()
        assert backward(reflection, z, q, v).isfinite().all()
    torch.testing.assert_close(reflection(v, -3 * v), -v)
    assert not reflection(0 * v, v).any()
