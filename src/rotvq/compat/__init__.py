"""Drop-in replacements for the layers of vector-quantize-pytorch: only the import changes.

    from rotvq.compat import ResidualVQ, VectorQuantize  # was: from vector_quantize_pytorch

Arguments, results and shapes are those of version 1.32. An argument that asks for an unsupported
feature is refused by name, with what to use instead; at its default it is always accepted. What
differs on purpose is listed in docs/coming-from.md.
"""

from rotvq.compat.fsq import FSQ, GroupedResidualFSQ, ResidualFSQ
from rotvq.compat.latent import LatentQuantize
from rotvq.compat.lfq import LFQ, GroupedResidualLFQ, ResidualLFQ
from rotvq.compat.random_projection import RandomProjectionQuantizer
from rotvq.compat.residual_vq import GroupedResidualVQ, ResidualVQ
from rotvq.compat.sim_vq import ResidualSimVQ, SimVQ
from rotvq.compat.vector_quantize import VectorQuantize

__all__ = [
    "FSQ",
    "LFQ",
    "GroupedResidualFSQ",
    "GroupedResidualLFQ",
    "GroupedResidualVQ",
    "LatentQuantize",
    "RandomProjectionQuantizer",
    "ResidualFSQ",
    "ResidualLFQ",
    "ResidualSimVQ",
    "ResidualVQ",
    "SimVQ",
    "VectorQuantize",
]
