"""For all tests: one thread, and shapes in signatures checked.

One thread, as the tensors are small and the machine may be shared. Shapes in signatures are
checked at run time in tests, and only there.

Quantization and model are left out, as torch.compile cannot trace the checks; test_shapes.py
checks theirs.
"""

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(["rotvq.evaluation", "rotvq.training.pictures"], "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
