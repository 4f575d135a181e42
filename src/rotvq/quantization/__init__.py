"""Vector quantization with a gradient that turns: usable alone, in anyone's model."""

from rotvq.quantization.codebook import EMA, Codebook, GradientLearned, Restart
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.search import nearest

__all__ = [
    "EMA",
    "ESTIMATORS",
    "Codebook",
    "GradientLearned",
    "Quantized",
    "Restart",
    "VectorQuantizer",
    "nearest",
]
