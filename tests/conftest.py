"""Shapes in signatures are checked at run time in tests, and only there.

Quantization and model are left out, as torch.compile cannot trace the checks; test_shapes.py
checks theirs.
"""

from jaxtyping import install_import_hook

install_import_hook(["rotvq.evaluation", "rotvq.training.pictures"], "beartype.beartype")
