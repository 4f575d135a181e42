"""RotVQ: VQ-VAE image tokenizers trained with the rotation trick.

Names are imported on first use, so that `rotvq --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rotvq.evaluation.ssim import structural_error
    from rotvq.model import VQVAE, Decoder, Encoder, VQVAEOutput
    from rotvq.plotting import plot_codebook, plot_usage
    from rotvq.quantization import (
        EMA,
        ESTIMATORS,
        BinarySphericalQuantizer,
        FiniteScalarQuantizer,
        GradientLearned,
        GroupedQuantizer,
        LinearMap,
        LookupFreeQuantizer,
        MultiScaleQuantizer,
        Quantized,
        Quantizer,
        ResidualQuantizer,
        Restart,
        VectorQuantizer,
        distances,
        nearest,
        nearest_codes,
        sampled,
    )
    from rotvq.tokens.collection import Tokens
    from rotvq.tokens.dataset import TokenDataset
    from rotvq.tokens.file import load_tokens, save_tokens
    from rotvq.tokens.images import decode_images, encode_images

__version__ = "0.1.0"

_MODULES = {
    "evaluation.ssim": ("structural_error",),
    "model": ("VQVAE", "Decoder", "Encoder", "VQVAEOutput"),
    "quantization": (
        "EMA",
        "ESTIMATORS",
        "BinarySphericalQuantizer",
        "FiniteScalarQuantizer",
        "GradientLearned",
        "GroupedQuantizer",
        "LinearMap",
        "LookupFreeQuantizer",
        "MultiScaleQuantizer",
        "Quantized",
        "Quantizer",
        "ResidualQuantizer",
        "Restart",
        "VectorQuantizer",
        "distances",
        "nearest",
        "nearest_codes",
        "sampled",
    ),
    "plotting": ("plot_codebook", "plot_usage"),
    "tokens.collection": ("Tokens",),
    "tokens.dataset": ("TokenDataset",),
    "tokens.file": ("load_tokens", "save_tokens"),
    "tokens.images": ("decode_images", "encode_images"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "EMA",
    "ESTIMATORS",
    "VQVAE",
    "BinarySphericalQuantizer",
    "Decoder",
    "Encoder",
    "FiniteScalarQuantizer",
    "GradientLearned",
    "GroupedQuantizer",
    "LinearMap",
    "LookupFreeQuantizer",
    "MultiScaleQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "Restart",
    "TokenDataset",
    "Tokens",
    "VQVAEOutput",
    "VectorQuantizer",
    "__version__",
    "decode_images",
    "distances",
    "encode_images",
    "load_tokens",
    "nearest",
    "nearest_codes",
    "plot_codebook",
    "plot_usage",
    "sampled",
    "save_tokens",
    "structural_error",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rotvq' has no attribute {name!r}")
    return getattr(import_module(f"rotvq.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
