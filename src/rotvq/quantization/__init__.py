"""Vector quantization layers, for any PyTorch model: the rotation trick and other estimators."""

from rotvq.quantization.codebook import Codebook
from rotvq.quantization.distance import distances, nearest_codes
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.fsq import FiniteScalarQuantizer
from rotvq.quantization.grouped import GroupedQuantizer
from rotvq.quantization.health import Health, health
from rotvq.quantization.interface import Quantized, Quantizer
from rotvq.quantization.lookup_free import (
    BINARY,
    BinarySphericalQuantizer,
    LookupFreeQuantizer,
)
from rotvq.quantization.multi_scale import MultiScaleQuantizer
from rotvq.quantization.quantizer import VectorQuantizer
from rotvq.quantization.residual import ResidualQuantizer
from rotvq.quantization.restart import Restart
from rotvq.quantization.sampling import sampled
from rotvq.quantization.search import nearest
from rotvq.quantization.updates import EMA, UPDATES, GradientLearned, LinearMap, Update

__all__ = [
    "BINARY",
    "EMA",
    "ESTIMATORS",
    "UPDATES",
    "BinarySphericalQuantizer",
    "Codebook",
    "FiniteScalarQuantizer",
    "GradientLearned",
    "GroupedQuantizer",
    "Health",
    "LinearMap",
    "LookupFreeQuantizer",
    "MultiScaleQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "Restart",
    "Update",
    "VectorQuantizer",
    "distances",
    "health",
    "nearest",
    "nearest_codes",
    "sampled",
]
