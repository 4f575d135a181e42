"""The drop-in against the layer that it stands for, where that is installed, and our own."""

import inspect

import pytest
import torch

from rotvq.compat import VectorQuantize
from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("vector_quantize_pytorch").VectorQuantize


def pair(peer, **arguments):
    """That layer and ours with the same codes and projections."""
    torch.manual_seed(0)
    theirs = peer(dim=8, codebook_size=16, **arguments)
    ours = VectorQuantize(dim=8, codebook_size=16, **arguments)
    with torch.no_grad():
        theirs._codebook.embed.normal_()
        ours.codebook.copy_(theirs.codebook)
    for name in ("project_in", "project_out"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    return theirs, ours


def defaults(function):
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


# What each asks for


def test_a_change_of_import_is_enough():
    torch.manual_seed(0)
    vq = VectorQuantize(dim=16, codebook_size=32, decay=0.8, commitment_weight=0.5)
    torch.manual_seed(0)
    own = VectorQuantizer(32, 16, update=EMA(0.8))
    x = torch.randn(2, 50, 16, requires_grad=True)
    quantized, indices, loss = vq(x)
    out = own(x)
    assert torch.equal(quantized, out.z_q) and torch.equal(indices, out.indices)
    assert torch.equal(loss, 0.5 * out.commitment_loss)
    assert torch.equal(vq.codebook, own.codebook.embeddings) and vq.codebook_size == 32
    (quantized.sum() + loss).backward()
    assert x.grad.isfinite().all()


def test_every_argument_of_that_layer_is_taken_at_its_default(peer):
    asked = {k: v for k, v in defaults(peer.__init__).items() if k != "codebook_size"}
    VectorQuantize(8, 16, **asked)
    for name, value in asked.items():
        VectorQuantize(8, 16, **{name: value})
    for name, value in defaults(peer.forward).items():
        if name != "mask":
            VectorQuantize(8, 16)(torch.randn(3, 8), **{name: value})


def test_what_the_arguments_become():
    vq = VectorQuantize(8, 16, kmeans_init=True, threshold_ema_dead_code=2, rotation_trick=False)
    assert vq.quantizer.estimator.__name__ == "straight_through"
    assert vq.quantizer.codebook.restart == Restart()
    assert not vq.quantizer.codebook.initialized
    assert VectorQuantize(8, 16).quantizer.estimator.__name__ == "rotation"
    assert VectorQuantize(1, 16).quantizer.estimator.__name__ == "straight_through"
    learned = VectorQuantize(8, 16, learnable_codebook=True, ema_update=False)
    assert isinstance(learned.quantizer.codebook.update, GradientLearned)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"heads": 2}, r"heads: expected 1; got 2\. Use rotvq\.GroupedQuantizer"),
        ({"use_cosine_sim": True}, "normalize before the layer"),
        ({"straight_through": True}, "there, straight_through is Gumbel-softmax"),
        ({"vq_bridge": torch.nn.Identity()}, "vq_bridge: expected None; got Identity"),
        ({"ema_update": False}, "ema_update: expected True with learnable_codebook=False"),
        ({"learnable_codebook": True, "ema_update": True}, "ema_update: expected False"),
        ({"no_such": 1}, r"no_such: expected an argument of VectorQuantize; got an unknown one"),
    ],
)
def test_arguments_that_are_not_supported(asked, message):
    with pytest.raises(UserError, match=message):
        VectorQuantize(8, 16, **asked)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"indices": torch.zeros(3)}, "indices: expected None; got a Tensor"),
        ({"topk": 2}, "topk: expected None; got 2"),
        ({"return_loss_breakdown": True}, "return_loss_breakdown: expected False; got True"),
        ({"no_such": 1}, r"no_such: expected an argument of VectorQuantize; got an unknown one"),
        ({"lens": torch.ones(3), "mask": torch.ones(3)}, "lens: expected either lens or mask"),
    ],
)
def test_keywords_of_a_call_that_are_not_supported(asked, message):
    with pytest.raises(UserError, match=message):
        VectorQuantize(8, 16)(torch.randn(3, 8), **asked)


# The same results as there


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("frozen", [False, True])
def test_values_losses_and_gradients(peer, learned, codebook_dim, frozen):
    theirs, ours = pair(
        peer,
        codebook_dim=codebook_dim,
        commitment_weight=0.3,
        learnable_codebook=learned,
        ema_update=not learned,
    )
    results, g = [], torch.randn(2, 30, 8)
    x = torch.randn(2, 30, 8)
    for vq, codes in ((theirs, theirs._codebook.embed), (ours, ours.codebook)):
        leaf = x.clone().requires_grad_()
        before = codes.detach().clone()
        quantized, indices, loss = vq(leaf, freeze_codebook=frozen)
        (loss + (quantized * g).sum()).backward()
        moved = codes.grad if codes.grad is not None else torch.zeros_like(codes)
        assert not frozen or (torch.equal(codes, before) and not moved.any())
        results.append((quantized, indices, loss, leaf.grad, moved.view(16, -1)))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)
    assert ours.training and ours.quantizer.training


@pytest.mark.parametrize("codebook_dim", [None, 4])
@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("keyword", ["mask", "lens"])
def test_masks(peer, codebook_dim, zeros, keyword):
    theirs, ours = pair(peer, codebook_dim=codebook_dim, return_zeros_for_masked_padding=zeros)
    x, lens = torch.randn(3, 6, 8), torch.tensor([6, 2, 0])
    mask = torch.arange(6) < lens.unsqueeze(1)
    how = {"mask": mask} if keyword == "mask" else {"lens": lens}
    theirs.eval(), ours.eval()
    quantized, indices, _ = ours(x, **how)
    expected, their_indices, _ = theirs(x, **how)
    torch.testing.assert_close(quantized, expected)
    assert torch.equal(indices, their_indices) and (indices[~mask] == -1).all()
    back = ours.get_output_from_indices(indices)
    torch.testing.assert_close(back[mask], quantized[mask])
    assert not back[~mask].any()


@pytest.mark.parametrize(
    "arguments, shape",
    [
        ({}, (2, 6, 8)),
        ({}, (5, 8)),
        ({"channel_last": False}, (2, 8, 6)),
        ({"accept_image_fmap": True}, (2, 8, 4, 5)),
        ({"accept_3d_fmap": True}, (2, 8, 3, 4, 5)),
        ({"codebook_dim": 3}, (2, 6, 8)),
        ({"codebook_dim": 3, "accept_image_fmap": True}, (2, 8, 4, 5)),
    ],
)
def test_layouts(peer, arguments, shape):
    theirs, ours = pair(peer, **arguments)
    theirs.eval(), ours.eval()
    quantized, indices, loss = ours(torch.randn(shape))
    assert loss == 0 and loss.shape == ()
    codes = ours.get_codes_from_indices(indices)
    torch.testing.assert_close(codes, theirs.get_codes_from_indices(indices))
    back = ours.get_output_from_indices(indices)
    if "codebook_dim" not in arguments or "accept_image_fmap" not in arguments:
        torch.testing.assert_close(back, theirs.get_output_from_indices(indices))
    else:  # there, it fails
        back = back.movedim(-1, 1)
    torch.testing.assert_close(back, quantized)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("codebook_dim", [None, 4])
def test_half_precision(dtype, codebook_dim):
    vq = VectorQuantize(8, 16, codebook_dim).to(dtype)
    x = torch.randn(2, 10, 8, dtype=dtype, requires_grad=True)
    quantized, _, loss = vq(x)
    (quantized.float().sum() + loss).backward()
    assert x.grad.isfinite().all() and quantized.dtype == dtype
    vq.eval()
    quantized, indices, _ = vq(x)
    assert torch.equal(vq.get_output_from_indices(indices), quantized)
    assert vq.get_codes_from_indices(indices).dtype == dtype


def test_a_frozen_codebook_is_placed_by_the_first_batch_and_stays():
    vq = VectorQuantize(8, 16, kmeans_init=True, freeze_codebook=True)
    x = 50 + torch.randn(100, 8)
    vq(x)
    placed = vq.codebook.clone()
    assert (placed.mean(0) - 50).abs().max() < 1
    vq(x + 1)
    assert torch.equal(vq.codebook, placed)
    vq(x + 1, freeze_codebook=False)
    assert not torch.equal(vq.codebook, placed)


def test_processes_exchange_nothing_if_each_keeps_its_own_codebook(monkeypatch):
    def refuse(*args, **keywords):
        raise ConnectionError("exchanged")

    dist = "rotvq.quantization.processes.dist"
    monkeypatch.setattr(f"{dist}.is_initialized", lambda: True)
    monkeypatch.setattr(f"{dist}.get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather", "broadcast"):
        monkeypatch.setattr(f"{dist}.{name}", refuse)
    x = torch.randn(100, 8)
    own = VectorQuantize(8, 16, sync_codebook=False, kmeans_init=True, threshold_ema_dead_code=1)
    before = own.codebook.clone()
    own(x)
    assert not torch.equal(own.codebook, before)
    for shared in (None, True):
        with pytest.raises(ConnectionError, match="exchanged"):
            VectorQuantize(8, 16, sync_codebook=shared)(x)
