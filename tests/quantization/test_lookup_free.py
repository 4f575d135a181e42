"""Binary codes: signs, indices, and entropies against tables of all codes."""

import math

import pytest
import torch
import torch.nn.functional as F

from rotvq.errors import UserError
from rotvq.quantization import BinarySphericalQuantizer, LookupFreeQuantizer
from rotvq.quantization.entropy import binary_entropies

KINDS = {"lookup-free": LookupFreeQuantizer, "spherical": BinarySphericalQuantizer}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def vectors(n=200, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@each_kind
def test_codes_are_signs_and_indices_their_bits(kind):
    z = vectors()
    out = kind(6)(z)
    scale = 1 if kind is LookupFreeQuantizer else 6**-0.5
    assert torch.equal(out.z_q, torch.where(z > 0, 1.0, -1.0) * scale)
    bits = ["".join("1" if x > 0 else "0" for x in row) for row in z]
    assert out.indices.tolist() == [int(text, 2) for text in bits]


@each_kind
def test_the_code_is_the_nearest_of_the_table(kind):
    quantizer, z = kind(6), vectors()
    on = z if kind is LookupFreeQuantizer else F.normalize(z, dim=1)
    (table,) = quantizer.tables
    assert torch.equal(torch.cdist(on.double(), table.double()).argmin(1), quantizer.encode(z))
    assert torch.equal(table[quantizer.encode(z)], quantizer(z).z_q)


@each_kind
def test_the_commitment_loss_and_the_straight_through_gradient(kind):
    z, g = vectors(), vectors(seed=1)
    ours, same = z.clone().requires_grad_(), z.double().requires_grad_()
    out = kind(6, entropy_loss=False)(ours)
    ((out.z_q * g).sum() + out.commitment_loss).backward()
    on = same if kind is LookupFreeQuantizer else F.normalize(same, dim=1)
    loss = (on - out.z_q.detach().double()).square().mean()
    ((on * g.double()).sum() + loss).backward()
    torch.testing.assert_close(ours.grad.double(), same.grad, rtol=1e-5, atol=1e-6)
    assert out.entropy_loss == 0 and out.commitment_loss > 0


def by_table(z, scale, temperature):
    """Both entropies from the distribution over all codes, in float64."""
    d = z.shape[1]
    codes = torch.cartesian_prod(*[torch.tensor([-scale, scale])] * d).view(-1, d).double()
    p = torch.softmax(-torch.cdist(z.double(), codes).square() / temperature, 1)
    own = torch.special.entr(p).sum(1).mean()
    return own, torch.special.entr(p.mean(0)).sum()


@pytest.mark.parametrize("temperature", [0.01, 1.0, 5.0])
def test_entropies_in_one_group_equal_those_of_the_table(temperature):
    z = vectors()
    own, batch = binary_entropies(z, 0.7, temperature, group=6)
    expected_own, expected_batch = by_table(z, 0.7, temperature)
    torch.testing.assert_close(own.double(), expected_own, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(batch.double(), expected_batch, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_smaller_groups_bound_the_entropy_from_above(group):
    z = vectors() @ torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    own, batch = binary_entropies(z, 1.0, 1.0, group)
    expected_own, expected_batch = by_table(z, 1.0, 1.0)
    torch.testing.assert_close(own.double(), expected_own, rtol=1e-4, atol=1e-6)
    assert batch > expected_batch + 1e-3
    parts = [by_table(part, 1.0, 1.0)[1] for part in z.split(group, 1)]
    torch.testing.assert_close(batch.double(), sum(parts), rtol=1e-4, atol=1e-6)


def test_the_entropy_loss_is_0_for_sure_and_even_use_and_greatest_for_one_code():
    even = torch.cartesian_prod(*[torch.tensor([-9.0, 9.0])] * 4)
    quantizer = LookupFreeQuantizer(4)
    assert quantizer(even).entropy_loss.abs() < 1e-5
    same = quantizer(even[:1].expand(10, 4)).entropy_loss
    torch.testing.assert_close(same, torch.tensor(4 * math.log(2)))
    unsure = quantizer(1e-9 * even).entropy_loss
    torch.testing.assert_close(unsure, torch.tensor(4 * math.log(2)))
    assert quantizer.eval()(even).entropy_loss == 0


def test_the_entropy_loss_spreads_the_use_of_codes():
    z = torch.nn.Parameter(1 + 0.1 * vectors(256, 6))
    quantizer = LookupFreeQuantizer(6, temperature=1.0)
    optimizer = torch.optim.Adam([z], 0.05)
    used = quantizer(z).indices.unique().numel()
    for _ in range(100):
        optimizer.zero_grad()
        quantizer(z).entropy_loss.backward()
        optimizer.step()
    assert used == 1 and quantizer(z).indices.unique().numel() > 48


def test_memory_does_not_grow_with_the_number_of_codes():
    quantizer = LookupFreeQuantizer(62)
    out = quantizer(vectors(50, 62).requires_grad_())
    out.loss(0.25, 0.1).backward()
    assert 0 <= out.indices.min() and torch.equal(quantizer.lookup(out.indices), out.z_q)


@each_kind
def test_masked_vectors_have_no_effect(kind):
    z, mask = vectors(), torch.arange(200) % 3 > 0
    quantizer = kind(6, temperature=1.0)
    out, kept = quantizer(z.where(mask[:, None], torch.nan), mask), quantizer(z[mask])
    for name in ("commitment_loss", "entropy_loss"):
        torch.testing.assert_close(getattr(out, name), getattr(kept, name))
    assert torch.equal(out.indices[mask], kept.indices) and (out.indices[~mask] == -1).all()
    assert not out.z_q[~mask].any() and torch.equal(quantizer.encode(z, mask), out.indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim: expected 1 to 62 channels"),
        ({"dim": 63}, "dim: expected 1 to 62 channels"),
        ({"dim": 4, "temperature": 0.0}, "temperature: expected a number above 0; got 0.0"),
        ({"dim": 4, "group": 0}, "group: expected 1 to 20 bits; got 0"),
        ({"dim": 4, "estimator": "none"}, "estimator: expected one of"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        LookupFreeQuantizer(**arguments)


@pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
@pytest.mark.parametrize("value", [0.0, -0.0, torch.nan, torch.inf])
def test_vectors_without_a_direction_have_one_index(kind, value):
    quantizer = kind(4).eval()
    z = torch.tensor([[value] * 4, [value, -1.0, 1.0, 0.0]])
    out = quantizer(z)
    assert torch.equal(quantizer.encode(z), out.indices)
    assert torch.equal(quantizer.lookup(out.indices), out.z_q)
