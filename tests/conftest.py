"""For all tests: one thread, and shapes in signatures checked.

One thread, as the tensors are small and the machine may be shared. Shapes in signatures are
checked at run time in tests, and only there.

Quantization and model are left out, as torch.compile cannot trace the checks; test_shapes.py
checks theirs.
"""

from pathlib import Path

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


SLOW = (
    "cli/test_no_network.py",
    "cli/test_reproduce.py",
    "studies/test_reproduction.py",
    "quantization/test_quantizer_compiled.py",
    "quantization/test_quantizer_distributed.py",
    "quantization/test_wrappers.py",
    "serving/test_load.py",
    "serving/test_page.py",
    "test_examples.py",
    "test_wheel.py",
    "training/test_kill.py",
    "training/test_processes.py",
)
"""Files whose tests `make test` leaves to `make test-slow`."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)
