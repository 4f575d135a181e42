"""GPU kernels in Triton. Each computes the same as the PyTorch code, in fewer launches.

To `torch.compile` they are opaque operators. Importing them requires `triton`.
"""

from rotvq.quantization.kernels.averages import average
from rotvq.quantization.kernels.gradient import rotate
from rotvq.quantization.kernels.nearest import centered, search
from rotvq.quantization.kernels.statistics import add_up, usable

__all__ = ["add_up", "average", "centered", "rotate", "search", "usable"]
