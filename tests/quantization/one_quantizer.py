"""A small `VectorQuantizer` with known codes, and vectors for it."""

import torch
from torch import Tensor

from rotvq.quantization import VectorQuantizer

K, D = 12, 5


def make(**options) -> VectorQuantizer:
    """A quantizer whose codes are spread like the data, so that many of them are in use."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(options.pop("codebook_size", K), options.pop("dim", D), **options)
    with torch.no_grad():
        quantizer.codebook.embeddings.copy_(torch.randn(quantizer.codebook.embeddings.shape))
    return quantizer


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
