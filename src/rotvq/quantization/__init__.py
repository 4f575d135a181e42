"""Vector quantization with a gradient that turns: usable alone, in anyone's model."""

from rotvq.quantization.codebook import Codebook
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.fsq import FiniteScalarQuantizer
from rotvq.quantization.health import Health, health
from rotvq.quantization.quantizer import Quantized, VectorQuantizer
from rotvq.quantization.rules import EMA, RULES, GradientLearned, LinearMap, Restart, Rule
from rotvq.quantization.search import nearest
from rotvq.quantization.several import GroupedQuantizer, ResidualQuantizer

__all__ = [
    "EMA",
    "ESTIMATORS",
    "RULES",
    "Codebook",
    "FiniteScalarQuantizer",
    "GradientLearned",
    "GroupedQuantizer",
    "Health",
    "LinearMap",
    "Quantized",
    "ResidualQuantizer",
    "Restart",
    "Rule",
    "VectorQuantizer",
    "health",
    "nearest",
]
