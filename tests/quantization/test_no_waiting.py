"""In a training step on a GPU, no quantizer waits for the device."""

import pytest
import torch
from no_waiting import NoWaiting, like_on_a_gpu

from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def layer(dim=16, **options):
    return VectorQuantizer(32, dim, channel_dim=1, **options)


KINDS = {
    "EMA": layer,
    "straight-through": lambda: layer(estimator="straight_through"),
    "reflection": lambda: layer(estimator="reflection"),
    "restart": lambda: layer(update=EMA(0.9), restart=Restart()),
    "deferred": lambda: layer(defer_update=True),
    "cosine": lambda: layer(metric="cosine"),
    "learned": lambda: layer(update=GradientLearned(), entropy_loss=True),
    "linear": lambda: layer(update=LinearMap()),
    "residual": lambda: ResidualQuantizer([layer(), layer()]),
    "grouped": lambda: GroupedQuantizer([layer(8), layer(8)]),
    "scales": lambda: MultiScaleQuantizer(layer(), [1, 2, 4]),
    "FSQ": lambda: FiniteScalarQuantizer([4] * 16, channel_dim=1),
    "lookup-free": lambda: LookupFreeQuantizer(16, channel_dim=1, entropy_loss=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_waits_for_nothing(kind, monkeypatch):
    like_on_a_gpu(monkeypatch)
    quantizer, z = KINDS[kind](), torch.randn(2, 16, 4, 4, requires_grad=True)
    with NoWaiting():
        out = quantizer(z)
        (out.z_q.sum() + out.commitment_loss + out.codebook_loss + out.entropy_loss).backward()
        if kind == "deferred":
            quantizer.update_codebook()


def test_waiting_is_noticed():
    t = torch.ones(3)
    for wait in (t.sum().item, lambda: t[t > 0], t.nonzero, lambda: bool(t.sum() > 0), t.unique):
        with pytest.raises(AssertionError), NoWaiting():
            wait()
