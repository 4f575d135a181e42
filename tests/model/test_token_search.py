"""The search for better tokens."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from every_quantizer import OF_EACH_KIND, each, fsq, made, residual, vector
from torch import nn

from rotvq.errors import UserError
from rotvq.model import VQVAE, second_order, token_search
from rotvq.model.curvature import curvature
from rotvq.model.effort import iterations
from rotvq.model.error_functions import squared_error, within
from rotvq.model.level_search import LevelSearch
from rotvq.model.objective import Objective, free_of_charge
from rotvq.model.token_search import TokenSearch
from rotvq.names import EFFORTS

KINDS = {name: make for name, make in OF_EACH_KIND.items() if "2**32" not in name}
NETWORKS = ("paper", "patches", "attention")
K = 12
SQUARED = Objective(squared_error, free_of_charge)


def model(make=None, network="patches"):
    """A model whose decoder depends on its codes, as one does that was trained."""
    quantizer = made(make or vector(), channel_dim=1)
    net = VQVAE(3, 16, quantizer.dim, 1, 2, quantizer, network)
    with torch.no_grad():
        for parameter in [*net.encoder.parameters(), *net.decoder.parameters()]:
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        last = [part for part in net.decoder if hasattr(part, "weight")][-1]
        last.weight.mul_(3)
    return net.eval()


def images(n=3, height=16, width=16):
    coarse = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return F.interpolate(coarse, (height, width), mode="bilinear").clamp(-1, 1)


class Linear(nn.Module):
    """A model with a linear decoder; with kernel 4, neighbors overlap. All tokens act alike."""

    def __init__(self, kernel):
        super().__init__()
        torch.manual_seed(0)
        self.quantizer = vector(k=K, d=4)(channel_dim=1)
        self.decoder = nn.ConvTranspose2d(4, 3, kernel, 2).double()
        self.kernel, self.stride = kernel, 2

    def decode(self, indices):
        return self.decoder(self.quantizer.lookup(indices).double()).detach()

    def start(self, n, h, w):
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(n, 3, *(2 * side - 2 + self.kernel for side in (h, w)), generator=generator)
        return x, torch.randint(K, (n, h, w), generator=generator)


def mean_squares(y, x):
    return (y - x).square().mean((1, 2, 3))


def absolute(y, x):
    return (y - x).abs().mean((1, 2, 3))


def blurred(y, x):
    return F.avg_pool2d(y - x, 4).square().sum((1, 2, 3))


def constant(y, x):
    return 0 * y.sum((1, 2, 3)) + 1


def root(y, x):
    """Not a sum over the pixels, and with a curvature below zero."""
    return (y - x).square().sum((1, 2, 3)).sqrt()


def not_finite(y, x):
    return squared_error(y, x) * math.nan


def infinite(y, x):
    return squared_error(y, x) + math.inf


ERRORS = (squared_error, mean_squares, absolute, blurred, constant, root, not_finite, infinite)


def assert_better(net, x, found, first, error=squared_error):
    """Better by images, and not worse for any."""
    before, after = error(net.decode(first), x), error(net.decode(found), x)
    assert (after <= before * (1 + 1e-6)).all(), (before, after)
    assert after.sum() < before.sum()


def test_changes_per_token_sum_to_the_change_of_a_quadratic_error():
    net = Linear(4)
    x, first = net.start(5, 4, 6)
    second = net.start(6, 4, 6)[1][1:]
    search, one = TokenSearch(net), torch.ones(5, 1, 1, 1)
    a, b = (search._decoded(x, i[:, None], SQUARED, one) for i in (first, second))
    each_token = ((a.g + b.g) * (b.q - a.q)).sum(1) / 2
    torch.testing.assert_close(
        each_token.sum((1, 2)), b.objective - a.objective, rtol=1e-4, atol=1e-3
    )


def test_the_gradient_after_reverting_a_token_is_exact_for_a_linear_decoder():
    net = Linear(2)  # without overlap
    x, first = net.start(4, 1, 1)
    search, one = TokenSearch(net), torch.ones(4, 1, 1, 1)
    with torch.no_grad():
        weight = net.decoder.weight.flatten(1).float()
    search.second_order.H.zero_()
    search.second_order.H[:, :, 1, 1] = weight @ weight.T
    last, new = (search._decoded(x, i, SQUARED, one) for i in (first[:, None], 0 * first[:, None]))
    failed = torch.tensor([True, False, True, False])[:, None, None]
    back = search._reverted(new, last, failed, one)
    torch.testing.assert_close(back.g[::2], last.g[::2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.g[1::2], new.g[1::2])
    assert torch.equal(back.indices[::2, 0], first[::2]) and not back.indices[1::2].any()


def price(indices):
    """Tokens cost as their codes do, and neighbors of the same code less."""
    generator = torch.Generator().manual_seed(5)
    each = 20 * torch.rand(K, generator=generator)
    rows = indices[:, 0]
    same = F.pad(rows, (1, 1), value=-1)
    alike = sum(
        (side.unsqueeze(3) == torch.arange(K)) for side in (same[:, :, :-2], same[:, :, 2:])
    )
    costs = each - 6 * alike
    here = costs.gather(3, rows.unsqueeze(3)).sum((1, 2, 3))
    pairs = (rows[:, :, 1:] == rows[:, :, :-1]).sum((1, 2))
    return here + 6 * pairs, (costs,)


@pytest.mark.parametrize("rate", [free_of_charge, price])
@pytest.mark.parametrize("kernel", [2, 4])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1)])
def test_all_codes_tried_one_by_one_find_nothing_better(kernel, grid, rate):
    net = Linear(kernel)
    x, first = net.start(20, *grid)
    found = TokenSearch(net)(x, first, 40, rate=rate)
    objective = Objective(squared_error, rate)
    least = objective(net.decode(found), x, found[:, None])
    for row, column, code in product(range(grid[0]), range(grid[1]), range(K)):
        other = found.clone()
        other[:, row, column] = code
        assert (objective(net.decode(other), x, other[:, None]) >= least - 1e-4).all()


@pytest.mark.parametrize("error", [squared_error, mean_squares, blurred])
def test_the_cost_of_tokens_is_lowered_with_the_error(error):
    net, x = model(vector(k=K)), images()
    first = net.encode(x)
    unit = error(net.decode(first), x).mean() / price(first[:, None])[0].mean()
    found = {}
    for weight in (0, 0.3, 3, 1e6):

        def rate(indices, scale=weight * unit):
            cost, costs = price(indices)
            return scale * cost, (scale * costs[0],)

        found[weight] = net.encode(x, effort=5, error=error, rate=rate)
        objective = Objective(error, rate)
        before, after = (objective(net.decode(i), x, i[:, None]) for i in (first, found[weight]))
        assert (after <= before * (1 + 1e-6)).all() and after.sum() < before.sum()
    assert torch.equal(found[0], net.encode(x, effort=5, error=error))
    costs = [price(each[:, None])[0].sum() for each in found.values()]
    assert costs == sorted(costs, reverse=True)
    errors = [error(net.decode(each), x).sum() for each in found.values()]
    assert errors == sorted(errors)
    assert costs[3] < 0.5 * costs[0]


@each(KINDS)
def test_no_image_is_worse_with_any_quantizer(make):
    net, x = model(make), images()
    first = net.encode(x)
    found = net.encode(x, effort=3)
    assert found.shape == first.shape and found.dtype == torch.int64
    assert_better(net, x, found, first)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("effort", [1, 4])
def test_no_image_is_worse_by_any_error(error, effort):
    net, x = model(), images()
    first = net.encode(x)
    found = net.encode(x, effort=effort, error=error)
    if error in (constant, not_finite, infinite):
        assert torch.equal(found, first)
    else:
        assert_better(net, x, found, first, error)


def test_an_error_that_is_not_finite_for_one_image_leaves_the_others():
    net, x = model(), images()
    bad = torch.tensor([1.0, math.nan, 1.0])

    def error(y, x):
        return squared_error(y, x) * bad

    found, whole = net.encode(x, effort=3, error=error), net.encode(x, effort=3)
    assert torch.equal(found[::2], whole[::2])
    assert torch.equal(found[1], net.encode(x)[1]) and not torch.equal(found[1], whole[1])


def test_units_of_the_error_do_not_matter():
    net, x = model(), images()
    expected = net.encode(x, effort=4)
    for factor in (2.0**-20, 2.0**-9, 2.0**9):
        found = net.encode(x, effort=4, error=lambda y, x, f=factor: f * squared_error(y, x))
        assert torch.equal(found, expected)
    assert (net.encode(x, effort=4, error=mean_squares) == expected).float().mean() > 0.95


def test_the_requested_error_is_the_one_that_falls():
    net, x = model(), images()
    by_square, by_part = (
        net.encode(x, effort=6, error=error) for error in (squared_error, blurred)
    )
    for error, best, other in ((squared_error, by_square, by_part), (blurred, by_part, by_square)):
        assert error(net.decode(best), x).sum() < error(net.decode(other), x).sum()


def test_higher_efforts_lower_the_error():
    net, x = model(), images(8)
    errors = [squared_error(net.decode(net.encode(x, effort=e)), x).sum() for e in (0, 1, 4, 8)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.98 * errors[1]


@pytest.mark.parametrize(("factor", "iterations", "share"), [(0.1, 4, 0.7), (2, 25, 0.35)])
def test_a_curvature_wrong_by_a_factor_is_corrected_during_the_search(
    factor, iterations, share, monkeypatch
):
    net, x = model(), images(32)
    first = net.encode(x)
    search = TokenSearch(net)
    monkeypatch.setattr(token_search, "curvature", lambda *args: factor * curvature(*args))
    wrong = TokenSearch(net)
    before, *after = (
        squared_error(net.decode(found), x).sum()
        for found in (first, search(x, first, iterations), wrong(x, first, iterations))
    )
    assert before - after[1] > share * (before - after[0])


def test_pixels_left_out_do_not_count():
    net, x = model(), images()
    rows, columns = slice(0, 9), slice(3, 14)
    other = x.clone()
    other[..., 9:, :], other[..., :3], other[..., 14:] = -x[..., 9:, :], 1, -1
    first, search = net.encode(x), TokenSearch(net)
    error = within(rows, columns)
    found = search(x, first, 10, error)
    assert torch.equal(search(other, first, 10, error), found)
    assert_better(net, x, found, first, error)
    assert not torch.equal(search(other, first, 10), search(x, first, 10))


def test_tokens_that_are_not_free_do_not_change():
    net, x = model(), images()
    first = net.encode(x)
    free = torch.zeros(4, 4, dtype=torch.bool)
    free[1:3, :2] = True
    found = TokenSearch(net)(x, first, 10, free=free)
    assert torch.equal(found[:, ~free], first[:, ~free])
    assert_better(net, x, found, first)
    assert torch.equal(TokenSearch(net)(x, first, 10, free=torch.zeros_like(free)), first)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(4, 4), (4, 20), (20, 4), (8, 8), (12, 28), (32, 16)])
def test_grids_of_any_shape(network, size):
    net, x = model(network=network), images(3, *size)
    first, found = net.encode(x), net.encode(x, effort=4)
    if min(size) > 8:
        assert_better(net, x, found, first)
    else:  # perhaps nothing better
        assert found.shape == first.shape
        before, after = (squared_error(net.decode(each), x) for each in (first, found))
        assert (after <= before * (1 + 1e-6)).all()


@pytest.mark.parametrize("make", [vector(), residual], ids=["vq", "residual"])
def test_an_image_alone_gets_the_same_tokens_as_in_a_batch(make, monkeypatch):
    # In float64, as other precisions round differently in a batch of another size.
    net, x = model(make).double(), images(4).double()
    together = net.encode(x, effort=5)
    assert torch.equal(torch.cat([net.encode(one[None], effort=5) for one in x]), together)
    assert torch.equal(net.encode(x.flip(0), effort=5).flip(0), together)
    search = LevelSearch(net, 5)
    monkeypatch.setattr(token_search, "PIXELS", 600)
    for module in (token_search, second_order):
        monkeypatch.setattr(module, "SCORES", 7 * 24)
    assert torch.equal(search(x, net.encode(x)), together)


@pytest.mark.parametrize("network", ["paper", "attention"])
@each(KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_nothing_else_changes(training, make, network):
    net, x = model(make, network).train(training), images()
    parameters = {name: (t.clone(), t.requires_grad) for name, t in net.named_parameters()}
    buffers = {name: t.clone() for name, t in net.named_buffers()}
    pixels, random = x.clone(), torch.get_rng_state()
    found = net.encode(x.requires_grad_(), effort=4)
    assert torch.equal(net.encode(x, effort=4), found)
    for name, t in net.named_parameters():
        assert torch.equal(t, parameters[name][0]) and t.requires_grad == parameters[name][1], name
        assert t.grad is None, name
    assert all(torch.equal(t, buffers[name]) for name, t in net.named_buffers())
    assert x.grad is None and torch.equal(x, pixels)
    assert all(module.training == training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_existing_gradients_are_kept():
    net, x = model(), images()
    net(x).loss().backward()
    before = {name: t.grad.clone() for name, t in net.named_parameters() if t.grad is not None}
    net.encode(x, effort=2)
    after = {name: t.grad for name, t in net.named_parameters() if t.grad is not None}
    assert before.keys() == after.keys() and before
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_under_every_mode_of_autograd(mode, frozen):
    net, x = model().requires_grad_(not frozen), images()
    expected = net.encode(x, effort=3)
    with mode():
        assert torch.equal(net.encode(x, effort=3), expected)
        inside = images()  # an inference tensor under inference_mode
        assert torch.equal(net.encode(inside, effort=3), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_under_autocast(network):
    net, x = model(network=network), images()
    with torch.autocast("cpu", torch.bfloat16):
        first, found = net.encode(x), net.encode(x, effort=4)
        before, after = (squared_error(net.decode(i).float(), x) for i in (first, found))
    assert (after <= before).all() and after.sum() < before.sum()


def test_autocast_does_not_coarsen_the_search():
    net, x = model(), images(8)
    first, search = net.encode(x), TokenSearch(net)
    expected = search(x, first, 10)
    with torch.autocast("cpu", torch.bfloat16):
        inside = TokenSearch(net)
        assert torch.equal(inside.second_order.H, search.second_order.H)
        assert torch.equal(inside(x, first, 10), expected)


def test_tokens_of_many_pixels_take_fewer_random_grids():
    sizes = []
    quantizer = made(vector(), channel_dim=1)
    for stages in (2, 5, 6):
        net = VQVAE(3, 4, quantizer.dim, 0, stages, quantizer, "patches")
        net.decoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        TokenSearch(net)
    assert sizes == [16, 16, 4, 4, 1, 1]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_in_other_precisions(network, dtype):
    net, x = model(network=network).to(dtype), images().to(dtype)
    first, found = net.encode(x), net.encode(x, effort=4)
    before, after = (squared_error(net.decode(i).float(), x.float()) for i in (first, found))
    assert (after <= before).all() and after.sum() < before.sum()


@pytest.mark.parametrize("has", [False, True])
def test_the_processor_may_lack_bf16(has, monkeypatch):
    monkeypatch.setattr(token_search, "has_bf16", lambda: has)
    net, x = model(), images()
    seen = []
    hook = net.decoder[0].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    found = net.encode(x, effort=2)
    hook.remove()
    assert (torch.bfloat16 in seen) == has
    assert_better(net, x, found, net.encode(x))


def test_latents_are_those_of_the_encoder():
    net, x = model(), images()
    found, z = net.encode(x, return_latents=True, effort=2)
    assert torch.equal(found, net.encode(x, effort=2))
    assert torch.equal(z, net.encode(x, return_latents=True)[1])


@pytest.mark.parametrize("effort", [-1, 10, True, 2.0, "3", None])
def test_efforts_out_of_range_are_refused(effort):
    with pytest.raises(
        UserError, match=rf"effort: expected an integer from 0 to 9; got {effort!r}\."
    ):
        model().encode(images(), effort=effort)


def test_higher_efforts_take_more_iterations():
    assert len(EFFORTS) == 10 and EFFORTS[0] == 0
    assert list(EFFORTS) == sorted(set(EFFORTS))
    assert [iterations(effort) for effort in range(10)] == list(EFFORTS)


def test_errors_of_another_shape_or_without_a_gradient_are_refused():
    net, x = model(), images()
    with pytest.raises(UserError, match=r"of shape \(3,\); got \(\)\. Sum over pixels"):
        net.encode(x, effort=1, error=F.mse_loss)
    with pytest.raises(UserError, match="differentiable with respect to the reconstruction; got"):
        net.encode(x, effort=1, error=lambda y, x: squared_error(y.detach(), x))


def test_grids_of_too_many_codes_are_refused():
    net = model(fsq(*[4] * 16))
    with pytest.raises(
        UserError, match=r"at most 1,048,576 codes for each index; got 4,294,967,296"
    ):
        net.encode(images(), effort=1)
    assert net.encode(images()).shape == (3, 4, 4)
