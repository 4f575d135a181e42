"""The drop-in against the layer that it stands for in our own words."""

import pytest
import torch

from rotvq.compat import VectorQuantize
from rotvq.errors import UserError
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer


def test_a_change_of_import_is_enough():
    torch.manual_seed(0)
    vq = VectorQuantize(dim=16, codebook_size=32, decay=0.8, commitment_weight=0.5)
    torch.manual_seed(0)
    own = VectorQuantizer(32, 16, rule=EMA(0.8))
    x = torch.randn(2, 50, 16, requires_grad=True)
    quantized, indices, loss = vq(x)
    out = own(x)
    assert torch.equal(quantized, out.z_q) and torch.equal(indices, out.indices)
    assert torch.equal(loss, 0.5 * out.commitment_loss)
    assert torch.equal(vq.codebook, own.codebook.e) and vq.codebook_size == 32
    (quantized.sum() + loss).backward()
    assert x.grad.isfinite().all()


def test_evaluation_has_no_loss():
    vq = VectorQuantize(8, 16).eval()
    quantized, indices, loss = vq(torch.randn(2, 5, 8))
    assert loss == 0 and loss.shape == ()
    assert torch.equal(vq.get_output_from_indices(indices), quantized)
    assert torch.equal(vq.get_codes_from_indices(indices), quantized)


@pytest.mark.parametrize(
    "arguments, shape, tokens",
    [
        ({"accept_image_fmap": True}, (2, 8, 4, 5), (2, 4, 5)),
        ({"channel_last": False}, (2, 8, 6), (2, 6)),
        ({"codebook_dim": 3}, (2, 6, 8), (2, 6)),
        ({"codebook_dim": 3, "accept_image_fmap": True}, (2, 8, 4, 5), (2, 4, 5)),
    ],
)
def test_shapes(arguments, shape, tokens):
    quantized, indices, _ = VectorQuantize(8, 16, **arguments)(torch.randn(shape))
    assert quantized.shape == shape and indices.shape == tokens


def test_what_the_arguments_become():
    vq = VectorQuantize(8, 16, kmeans_init=True, threshold_ema_dead_code=2, rotation_trick=False)
    assert vq.quantizer.estimator.__name__ == "straight_through"
    assert vq.quantizer.codebook.restart == Restart()
    assert not vq.quantizer.codebook.ready
    assert VectorQuantize(8, 16).quantizer.estimator.__name__ == "rotation"
    assert VectorQuantize(8, 16, straight_through=True).quantizer.estimator.__name__ != "rotation"
    learned = VectorQuantize(8, 16, learnable_codebook=True)
    assert isinstance(learned.quantizer.codebook.rule, GradientLearned)
    _, _, loss = learned(torch.randn(3, 8))
    loss.backward()
    assert learned.codebook.grad is not None


def test_masks():
    x, mask = torch.randn(2, 6, 8), torch.tensor([[True] * 4 + [False] * 2] * 2)
    quantized, indices, _ = VectorQuantize(8, 16)(x, mask=mask)
    assert (indices[:, 4:] == -1).all() and (quantized[:, 4:] == 0).all()


@pytest.mark.parametrize("harmless", [{"heads": 1}, {"eps": 1e-5, "kmeans_iters": 3}])
def test_arguments_that_ask_for_nothing_else(harmless):
    VectorQuantize(8, 16, **harmless)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"heads": 2}, "heads: expected 1; got 2. Use rotvq.GroupedQuantizer"),
        ({"use_cosine_sim": True}, "normalize before the layer"),
        ({"vq_bridge": 1}, "vq_bridge: expected an argument that rotvq.compat knows"),
    ],
)
def test_arguments_that_are_not_supported(asked, message):
    with pytest.raises(UserError) as caught:
        VectorQuantize(8, 16, **asked)
    assert message in str(caught.value)
