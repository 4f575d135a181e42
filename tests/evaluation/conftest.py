"""A small model whose codes spread over the images' vectors, and smooth random images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


@pytest.fixture
def make_images() -> Callable[..., Tensor]:
    def make(n: int = 12, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(n, channels, 4, 4, generator=generator)
        fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        return fine.mul(256).clamp(0, 255).byte().contiguous()

    return make


@pytest.fixture
def make_model() -> Callable[..., VQVAE]:
    def make(estimator: str = "rotation", channels: int = 3) -> VQVAE:
        torch.manual_seed(0)
        quantizer = VectorQuantizer(
            16, 8, estimator=estimator, init="data", channel_dim=1, defer_update=True
        )
        model = VQVAE(channels, width=8, dim=8, depth=1, quantizer=quantizer)
        with torch.no_grad():
            # As drawn, the decoder hardly looks at its codes.
            for parameter in model.parameters():
                parameter.mul_(2.5)
            quantizer.initialize_codebook(model.encoder(torch.rand(32, channels, 16, 16) * 2 - 1))
        return model.eval()

    return make
