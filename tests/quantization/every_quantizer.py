"""A quantizer of every kind, and what the tests of all kinds share."""

import pytest
import torch
from torch import Tensor, nn

from rotvq.quantization import (
    EMA,
    ESTIMATORS,
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    LookupFreeQuantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

K, D = 24, 6
UPDATES = {"ema": EMA(0.9), "gradient": GradientLearned(0.9), "linear": LinearMap(0.9)}


def vector(estimator="rotation", update="ema", k=K, d=D, **more):
    def make(**place):
        quantizer = VectorQuantizer(
            k, d, estimator=estimator, update=UPDATES[update], **(more | place)
        )
        quantizer.initialize_codebook(torch.randn(300, d))
        return quantizer

    return make


def fsq(*levels, **more):
    return lambda **place: FiniteScalarQuantizer(levels, **more, **place)


def residual(**place):
    return ResidualQuantizer([vector()(**place) for _ in range(2)])


def grouped(**place):
    return GroupedQuantizer([vector(d=4)(**place), fsq(3, 2)(**place)])


def groups_of_residual(**place):
    return GroupedQuantizer(
        [ResidualQuantizer([vector(d=3)(**place) for _ in range(2)]) for _ in range(2)]
    )


OF_EACH_KIND = {
    **{f"vq {e} ema": vector(e) for e in ESTIMATORS},
    **{f"vq rotation {update}": vector(update=update) for update in UPDATES},
    "vq restart": vector(restart=Restart(0.1)),
    "vq entropy_weight": vector(entropy_loss=True),
    "vq cosine": vector(metric="cosine"),
    "vq cosine gradient": vector(update="gradient", metric="cosine"),
    "vq cosine linear": vector(update="linear", metric="cosine"),
    "lookup-free": lambda **place: LookupFreeQuantizer(6, **place),
    "binary spherical": lambda **place: BinarySphericalQuantizer(6, **place),
    "fsq": fsq(8, 5, 5, 5),
    "fsq symmetric": fsq(8, 5, 4, 2, symmetric=True),
    "fsq of 2 levels": fsq(2, 2, 2, 2, 2, 2),
    "fsq of 2**32 codes": fsq(*[4] * 16),
    "residual": residual,
    "grouped": grouped,
    "groups of residual": groups_of_residual,
}
ALL = {
    f"vq {e} {update}": vector(e, update) for e in ESTIMATORS for update in UPDATES
} | OF_EACH_KIND
DISCRETE = {name: make for name, make in ALL.items() if "reflection" not in name}
HALF = [torch.float16, torch.bfloat16]


def made(make, **place):
    torch.manual_seed(0)
    return make(**place)


def vectors(quantizer, *shape, seed=1):
    return torch.randn(*shape, quantizer.dim, generator=torch.Generator().manual_seed(seed))


def state(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, including those that are not saved."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: t.detach().clone() for name, t in tensors}


def assert_same_state(one, other, **tolerance):
    """Compare two quantizers, or what `state` returned of them before."""
    one, other = (state(q) if isinstance(q, nn.Module) else q for q in (one, other))
    assert one.keys() == other.keys()
    for name, t in one.items():
        torch.testing.assert_close(t, other[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def each(quantizers, argument="make"):
    return pytest.mark.parametrize(argument, quantizers.values(), ids=quantizers.keys())


def leaves(quantizer):
    kinds = (VectorQuantizer, FiniteScalarQuantizer, LookupFreeQuantizer)
    return [module for module in quantizer.modules() if isinstance(module, kinds)]
