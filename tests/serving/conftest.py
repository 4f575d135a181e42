"""A small model, and the page served from a thread."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(30, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    quantizer.codebook.cluster_size.copy_(torch.arange(30))
    return VQVAE(width=8, dim=8, depth=1, quantizer=quantizer)


@pytest.fixture(scope="session")
def served(model):
    """The address of the page."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from rotvq.serving.app import make
    from rotvq.serving.listening import listen, resolve
    from rotvq.serving.listening import server as server_of
    from rotvq.serving.session import Session

    bound = listen(resolve("127.0.0.1"), 0)
    server = server_of(make(Session(model), ["127.0.0.1"]))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    bound.close()
