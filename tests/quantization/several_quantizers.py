"""Residual and grouped quantizers with known codes, for their tests."""

import torch

from rotvq.quantization import EMA, GroupedQuantizer, ResidualQuantizer, VectorQuantizer


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(k=32, d=8, seed=1, **more):
    quantizer = VectorQuantizer(k, d, update=EMA(0.5), **more)
    quantizer.codebook.embeddings.copy_(normal(k, d, seed=seed))
    return quantizer


def residual(levels=3, **more):
    return ResidualQuantizer([layer(seed=s, **more) for s in range(1, levels + 1)])


def grouped(**more):
    return GroupedQuantizer([layer(d=8, **more), layer(k=20, d=3, seed=2, **more)])
