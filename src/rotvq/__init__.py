"""RotVQ: VQ-VAE image tokenizers trained with the rotation trick.

Names are imported on first use, so that `rotvq --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rotvq.model import VQVAE, Decoder, Encoder, VQVAEOutput
    from rotvq.quantization import (
        EMA,
        ESTIMATORS,
        FiniteScalarQuantizer,
        GradientLearned,
        GroupedQuantizer,
        LinearMap,
        Quantized,
        Quantizer,
        ResidualQuantizer,
        Restart,
        VectorQuantizer,
    )

__version__ = "0.1.0"

_HOME = {
    "EMA": "quantization",
    "ESTIMATORS": "quantization",
    "FiniteScalarQuantizer": "quantization",
    "GradientLearned": "quantization",
    "GroupedQuantizer": "quantization",
    "LinearMap": "quantization",
    "Quantized": "quantization",
    "Quantizer": "quantization",
    "ResidualQuantizer": "quantization",
    "Restart": "quantization",
    "VectorQuantizer": "quantization",
    "Decoder": "model",
    "Encoder": "model",
    "VQVAE": "model",
    "VQVAEOutput": "model",
}

__all__ = [
    "EMA",
    "ESTIMATORS",
    "VQVAE",
    "Decoder",
    "Encoder",
    "FiniteScalarQuantizer",
    "GradientLearned",
    "GroupedQuantizer",
    "LinearMap",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "Restart",
    "VQVAEOutput",
    "VectorQuantizer",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rotvq' has no attribute {name!r}")
    return getattr(import_module(f"rotvq.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
