"""One codebook step for one optimizer step, none in evaluation; and the state that is kept."""

import copy
import warnings

import pytest
import torch
from every_quantizer import assert_same_state, state
from one_quantizer import D, K, make, vectors
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rotvq.errors import UserError
from rotvq.quantization.quantizer import _WARN_AFTER, VectorQuantizer
from rotvq.quantization.restart import Restart
from rotvq.quantization.updates import EMA, GradientLearned


def test_evaluation_changes_no_buffer():
    for options in (
        {},
        {"restart": Restart()},
        {"init": "data"},
        {"defer_update": True},
        {"update": GradientLearned()},
    ):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(K, D, **options)
        quantizer(vectors(40, D))
        quantizer.eval()
        before = state(quantizer)
        z = 3 + vectors(40, D, seed=2)
        out = quantizer(z)
        quantizer(z, torch.rand(40) < 0.5)
        quantizer.lookup(quantizer.encode(out.z_q))
        assert_same_state(quantizer, before, rtol=0, atol=0)


def test_evaluation_before_any_training_changes_no_buffer_either():
    for init in ("uniform", "data"):
        quantizer = VectorQuantizer(K, D, init=init).eval()
        before = state(quantizer)
        quantizer(vectors(40, D))
        assert_same_state(quantizer, before, rtol=0, atol=0)


def test_encode_changes_no_buffer_in_training_mode():
    quantizer = make(defer_update=True)
    before = state(quantizer)
    quantizer.encode(vectors(40, D))
    assert_same_state(quantizer, before, rtol=0, atol=0)


def test_an_immediate_update_is_a_deferred_one():
    now, later = make(), make(defer_update=True)
    for seed in range(3):
        z = vectors(40, D, seed=seed)
        e = later.codebook.embeddings.clone()
        a, b = now(z), later(z)
        assert torch.equal(later.codebook.embeddings, e)
        later.update_codebook()
        assert torch.equal(a.z_q, b.z_q) and torch.equal(a.indices, b.indices)
    assert_same_state(now, later, rtol=0, atol=0)
    assert not torch.equal(now.codebook.embeddings, e)


@pytest.mark.parametrize("update", [EMA(decay=0.9), GradientLearned()])
def test_four_micro_batches_equal_one_large_batch(update):
    large, micro = make(update=update, defer_update=True), make(update=update, defer_update=True)
    for seed in range(3):
        z = vectors(40, D, seed=seed)
        out = large(z)
        parts = [micro(part) for part in z.chunk(4)]
        assert torch.equal(out.indices, torch.cat([p.indices for p in parts]))
        losses = torch.stack([p.commitment_loss for p in parts])
        torch.testing.assert_close(losses.mean(), out.commitment_loss)
        large.update_codebook()
        micro.update_codebook()
        assert_same_state(micro, large, rtol=1e-5, atol=1e-6)


def test_two_runs_of_the_same_seed_are_equal_bit_for_bit():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        quantizer = VectorQuantizer(K, D, init="data", restart=Restart())
        for seed in range(4):
            quantizer(vectors(60, D, seed=seed))
        states.append(quantizer)
    assert_same_state(*states, rtol=0, atol=0)


class Block(nn.Module):
    """A layer before the quantizer, and one after it."""

    def __init__(self, **options):
        super().__init__()
        self.quantizer = make(**options)
        torch.manual_seed(2)
        # The dropout draws after the quantizer, whose own draws must not change it.
        self.before, self.after = nn.Linear(3, D), nn.Sequential(nn.Dropout(0.3), nn.Linear(D, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.quantizer(self.before(x))
        return self.after(out.z_q), out.commitment_loss


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("defer", [True, False])
@pytest.mark.parametrize("init", ["uniform", "data"])
@pytest.mark.parametrize("restart", [None, Restart()])
def test_activation_checkpointing_changes_nothing(restart, init, defer, reentrant):
    options = {"restart": restart, "init": init, "defer_update": defer, "update": EMA(decay=0.5)}
    plain, again = Block(**options), Block(**options)
    for seed in range(3):
        grads = []
        for block in (plain, again):
            torch.manual_seed(seed)
            x = vectors(30, 3, seed=seed).requires_grad_()
            if block is plain:
                y, commitment = block(x)
            else:
                y, commitment = checkpoint(block, x, use_reentrant=reentrant)
            block.zero_grad()
            try:
                (y.square().sum() + commitment).backward()
            except UserError:
                # The codes of the first pass are gone: a refusal will do, other gradients will not.
                assert block is again and not defer
                return
            if defer:
                block.quantizer.update_codebook()
            grads.append([x.grad, *(p.grad for p in block.parameters())])
        assert_same_state(again.quantizer, plain.quantizer)
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)


def test_a_missing_update_is_warned_about_once():
    quantizer = make(defer_update=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):  # gradient accumulation over many micro-batches
            for _ in range(32):
                quantizer(vectors(4, D))
            quantizer.update_codebook()
        quantizer.eval()
        for _ in range(_WARN_AFTER):
            quantizer(vectors(4, D))
    quantizer.train()
    with pytest.warns(UserWarning, match=r"100 training steps without update_codebook\(\)") as said:
        for _ in range(2):
            for _ in range(3 * _WARN_AFTER):
                quantizer(vectors(4, D))
            quantizer.update_codebook()
    assert len(said) == 1


def test_there_is_no_warning_without_deferred_updates():
    quantizer = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2 * _WARN_AFTER):
            quantizer(vectors(4, D))


@pytest.mark.parametrize("update", [EMA(), GradientLearned()])
@pytest.mark.parametrize("init", ["uniform", "data"])
def test_a_saved_quantizer_trains_on_like_the_original(init, update, tmp_path):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init=init, update=update, restart=Restart())
    for seed in range(3):
        quantizer(vectors(60, D, seed=seed))
    torch.save(quantizer.state_dict(), tmp_path / "state.pt")
    loaded = VectorQuantizer(K, D, init=init, update=update, restart=Restart())
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for name, value in quantizer.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    for each in (quantizer, loaded):
        torch.manual_seed(9)
        each(100 + vectors(60, D, seed=9))  # a second initialization would show
    assert torch.equal(loaded.codebook.embeddings, quantizer.codebook.embeddings)
    assert torch.equal(loaded.codebook.cluster_size, quantizer.codebook.cluster_size)


def test_an_uninitialized_state_is_loaded_as_such():
    fresh = VectorQuantizer(K, D, init="data")
    used = VectorQuantizer(K, D, init="data")
    used(vectors(60, D))
    used.load_state_dict(fresh.state_dict())
    used(50 + vectors(60, D))
    assert (used.codebook.embeddings.mean(0) - 50).abs().max() < 1


@pytest.mark.parametrize("defer", [True, False])
def test_a_deep_copy_is_independent(defer):
    quantizer = make(defer_update=defer, restart=Restart())
    quantizer(vectors(40, D).requires_grad_())
    twin = copy.deepcopy(quantizer)
    before = state(quantizer)
    assert_same_state(twin, before)
    twin(vectors(40, D, seed=4))
    twin.update_codebook()
    assert_same_state(quantizer, before, rtol=0, atol=0)


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.bfloat16])
def test_converting_the_model_leaves_the_codebook_in_float32(convert):
    quantizer = make()
    before = state(quantizer)
    convert(quantizer)
    assert_same_state(quantizer, before, rtol=0, atol=0)
    quantizer(vectors(40, D).bfloat16())
    assert quantizer.codebook.embeddings.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_makes_no_other_codebook(dtype):
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        quantizer = VectorQuantizer(K, D, restart=Restart())
        quantizer(torch.randn(40, D))
    finally:
        torch.set_default_dtype(previous)
    codebook = quantizer.codebook
    assert (
        codebook.embeddings.dtype
        == codebook.cluster_size.dtype
        == codebook.embed_sum.dtype
        == torch.float32
    )


def test_the_first_training_forward_initializes_from_its_data():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init="data")
    first = quantizer(50 + vectors(200, D))
    assert (quantizer.codebook.embeddings.mean(0) - 50).abs().max() < 1
    assert len(first.indices.unique()) == K
    assert float(first.commitment_loss) < 1
    before = quantizer.codebook.embeddings.clone()
    quantizer(50 + vectors(200, D, seed=8))
    # Another 200 vectors at a weight of 1/100 shift no code far, above all not towards zero.
    assert (quantizer.codebook.embeddings - before).norm(dim=1).max() < 0.5
