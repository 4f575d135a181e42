"""Buffers decide what a codebook does, however their values came."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from rotvq import EMA, GradientLearned, LinearMap, Restart, VectorQuantizer

K, D = 16, 4
UPDATES = [EMA(0.9), GradientLearned(0.9), LinearMap(0.9)]


def make(update=None, **options) -> VectorQuantizer:
    return VectorQuantizer(K, D, update=update or EMA(0.9), init="data", **options)


def trained(update=None, **options) -> VectorQuantizer:
    torch.manual_seed(0)
    quantizer = make(update, **options)
    for _ in range(5):
        quantizer(5 + torch.randn(200, D))
    quantizer.update_codebook()
    return quantizer


def tensors(quantizer: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in quantizer.state_dict().items()}


def next_step(quantizer: VectorQuantizer) -> dict[str, Tensor]:
    torch.manual_seed(9)
    quantizer.train()(5 + torch.randn(200, D))
    quantizer.update_codebook()
    return tensors(quantizer)


def both(a: nn.Module, b: nn.Module) -> zip:
    pairs = [*a.parameters(), *a.buffers()], [*b.parameters(), *b.buffers()]
    return zip(*pairs, strict=True)


@torch.no_grad()
def copied(old, new):
    for a, b in both(new, old):
        a.copy_(b)
    return new


@torch.no_grad()
def copied_as_data(old, new):
    for a, b in both(new, old):
        a.data.copy_(b.data)
    return new


def replaced_data(old, new):
    for a, b in both(new, old):
        a.data = b.detach().clone()
    return new


def loaded(old, new):
    new.load_state_dict(old.state_dict())
    return new


def assigned(old, new):
    new.load_state_dict(tensors(old), assign=True)
    return new


def on_meta(old, _):
    with torch.device("meta"):
        new = make(old.codebook.update)
    return assigned(old, new)


def from_meta(old, _):
    with torch.device("meta"):
        new = make(old.codebook.update)
    return loaded(old, new.to_empty(device="cpu"))


def without_marks(old, new):
    """A state of before `initialized` was a number and ages were kept."""
    state = old.state_dict()
    state["codebook.initialized"] = state["codebook.initialized"].bool()
    del state["codebook.idle"]
    new.load_state_dict(state)
    new.codebook.idle.copy_(old.codebook.idle)
    return new


WAYS = [copied, copied_as_data, replaced_data, loaded, assigned, on_meta, from_meta, without_marks]
WAYS += [lambda old, _: copy.deepcopy(old), lambda old, _: pickle.loads(pickle.dumps(old))]


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_loaded_state_trains_on_like_the_original(way, update):
    old = trained(update)
    new = way(old, make(update))
    assert new.codebook.ready
    expected = next_step(old)
    for name, t in next_step(new).items():
        assert torch.equal(t, expected[name]), name


@pytest.mark.parametrize("way", [copied, copied_as_data, loaded, assigned])
def test_an_uninitialized_state_stays_uninitialized_when_loaded(way):
    quantizer = way(make(), trained())
    assert not quantizer.codebook.ready
    quantizer(50 + torch.randn(200, D))
    assert (quantizer.codebook.embeddings.mean(0) - 50).abs().max() < 1


@pytest.mark.parametrize("size, dim", [(K + 1, D), (K, D + 1)])
def test_a_state_of_another_size_marks_nothing_as_placed(size, dim):
    other = VectorQuantizer(size, dim)
    quantizer = make()
    before = tensors(quantizer)
    with pytest.raises(RuntimeError, match=r"size mismatch for codebook\.embeddings"):
        quantizer.load_state_dict(other.state_dict(), strict=False)
    for name, t in tensors(quantizer).items():
        assert torch.equal(t, before[name]), name
    assert not quantizer.codebook.ready


def test_codes_under_another_rules_name_mark_nothing_as_placed():
    quantizer = make(LinearMap())
    quantizer.load_state_dict(trained().state_dict(), strict=False)
    assert not quantizer.codebook.ready


def test_a_state_without_codes_marks_nothing_as_placed():
    state = trained().state_dict()
    del state["codebook.embeddings"]
    quantizer = make()
    quantizer.load_state_dict(state, strict=False)
    assert not quantizer.codebook.ready


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
def test_codes_that_come_alone_are_placed(update):
    old, quantizer = trained(update), make(update)
    codes = {
        n: t
        for n, t in old.state_dict().items()
        if n.split(".")[-1] not in ("cluster_size", "embed_sum")
    }
    del codes["codebook.initialized"]
    quantizer.load_state_dict(codes, strict=False)
    assert quantizer.codebook.ready
    assert torch.equal(quantizer.codebook.embeddings, old.codebook.embeddings)
    assert not quantizer.codebook.cluster_size.any()


def test_loading_discards_accumulated_statistics():
    restart = Restart()
    old = trained(restart=restart, defer_update=True)
    new = trained(restart=restart, defer_update=True)
    new(100 + torch.randn(50, D))
    new.load_state_dict(old.state_dict())
    expected = next_step(old)
    for name, t in next_step(new).items():
        assert torch.equal(t, expected[name]), name


def test_a_device_is_asked_only_after_its_flag_may_have_changed(monkeypatch):
    quantizer = trained()
    asked, plain = [], torch.Tensor.__bool__

    def ask(t: Tensor) -> bool:
        asked.append(t)
        return plain(t)

    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    monkeypatch.setattr(torch.Tensor, "__bool__", ask)

    def times() -> int:
        asked.clear()
        for _ in range(3):
            quantizer(5 + torch.randn(200, D))
        return sum(t is quantizer.codebook.initialized for t in asked)

    assert times() == 1
    assert times() == 0
    quantizer.codebook.initialized.copy_(torch.tensor(1.0))
    assert times() == 1
    quantizer.codebook.initialized = torch.tensor(1.0)
    assert times() == 1
    quantizer.codebook.initialized.zero_()  # asked until the codes are placed, and once after
    assert times() == 2


AVERAGES = [{}, {"avg_fn": get_ema_avg_fn(0.5)}, {"multi_avg_fn": get_ema_multi_avg_fn(0.5)}]


@pytest.mark.parametrize("average", AVERAGES, ids=["swa", "ema", "foreach"])
@pytest.mark.parametrize("early", [False, True])
def test_an_average_with_buffers_has_codes(average, early):
    torch.manual_seed(0)
    quantizer = make()
    if not early:
        quantizer(5 + torch.randn(200, D))
    averaged = AveragedModel(quantizer, use_buffers=True, **average)
    seen = []
    if early:  # a first copy of codes that wait for data
        averaged.update_parameters(quantizer)
        seen.append(quantizer.codebook.embeddings.clone())
    for _ in range(3):
        quantizer(5 + torch.randn(200, D))
        averaged.update_parameters(quantizer)
        seen.append(quantizer.codebook.embeddings.clone())
    expected = seen[0]
    for number, e in enumerate(seen[1:], start=1):
        expected = torch.lerp(expected, e, 0.5 if average else 1 / (number + 1))
    torch.testing.assert_close(averaged.module.codebook.embeddings, expected)
    assert averaged.module.codebook.ready


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
@pytest.mark.parametrize("defer", [False, True])
def test_statistics_are_computed_in_float32_whatever_a_wrapper_stored(defer, update, dtype):
    plain = trained(update, defer_update=defer, restart=None)
    cast = copy.deepcopy(plain)
    for module in cast.modules():  # as FullyShardedDataParallel does
        for name, buffer in module._buffers.items():
            if buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
    for _ in range(30):
        z = 5 + torch.randn(200, D)
        for quantizer in (plain, cast):
            quantizer(z)
            if defer:
                quantizer.update_codebook()
    assert all(b.dtype in (torch.float32, torch.int64) for b in cast.buffers())
    torch.testing.assert_close(
        cast.codebook.cluster_size.sum(), plain.codebook.cluster_size.sum(), rtol=1e-2, atol=0
    )
    torch.testing.assert_close(
        cast.codebook.embeddings.mean(), plain.codebook.embeddings.mean(), rtol=1e-2, atol=0
    )


def test_half_precision_buffers_encode_as_their_values():
    quantizer = trained().eval()
    quantizer.codebook.embeddings = quantizer.codebook.embeddings.bfloat16()
    z = 5 + torch.randn(50, D)
    distance = torch.cdist(z.double(), quantizer.codebook.embeddings.double())
    assert torch.equal(quantizer.encode(z), distance.argmin(1))
    assert quantizer.lookup(torch.arange(K)).dtype == torch.float32
    assert quantizer.codebook.embeddings.dtype == torch.bfloat16  # evaluation changes no buffer


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_a_codebook_can_start_again(update, init):
    torch.manual_seed(3)
    fresh = VectorQuantizer(K, D, update=update, init=init)
    with torch.device("meta"):
        empty = VectorQuantizer(K, D, update=update, init=init)
    used = VectorQuantizer(K, D, update=update, init=init)
    used(5 + torch.randn(200, D))
    for quantizer in (used, empty.to_empty(device="cpu")):
        torch.manual_seed(3)
        quantizer.codebook.reset_parameters()
        for name, t in tensors(quantizer).items():
            assert torch.equal(t, tensors(fresh)[name]), name
