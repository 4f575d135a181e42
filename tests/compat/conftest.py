"""The library that `rotvq.compat` stands in for, where it is installed."""

import pytest


@pytest.fixture(scope="session")
def library():
    return pytest.importorskip("vector_quantize_pytorch")
