"""Small models, a prior, and the page served from a thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
import torch

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer
from rotvq.serving.session import Session
from rotvq.tokens.model_codec import codec


def small_model(seed):
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(30, 8, channel_dim=1)
    torch.nn.init.normal_(quantizer.codebook.embeddings)
    quantizer.codebook.cluster_size.copy_(torch.arange(30))
    model = VQVAE(width=8, dim=8, depth=1, quantizer=quantizer)
    with torch.no_grad():  # codes that look different
        for p in model.decoder.parameters():
            p.mul_(3)
    return model


@pytest.fixture(scope="session")
def model():
    return small_model(0)


@pytest.fixture(scope="session")
def drawing(model):
    """A prior over pictures of 3x4 tokens, with two classes."""
    pytest.importorskip("transformers")
    from rotvq.generation import Prior, Vocabulary
    from rotvq.generation.config import TransformerConfig
    from rotvq.serving.drawing import Drawing

    torch.manual_seed(0)
    vocabulary = Vocabulary(codec(model), ((3, 4),), ("cat", "dog"))
    return Drawing(Prior(vocabulary, TransformerConfig(width=16, depth=1, heads=2)))


@contextmanager
def serving(sessions):
    """The address of the page."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from rotvq.serving.app import make
    from rotvq.serving.listening import listen, resolve
    from rotvq.serving.listening import server as server_of

    bound = listen(resolve("127.0.0.1"), 0)
    server = server_of(make(sessions, ["127.0.0.1"]))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has ended"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    bound.close()


@pytest.fixture(scope="session")
def served(model):
    """The address of a page with one model."""
    with serving([Session(model)]) as address:
        yield address


@pytest.fixture(scope="session")
def served_all(model, drawing):
    """The address of a page with two models, of which the first has a prior."""
    with serving([Session(model, "first", drawing), Session(small_model(1), "second")]) as address:
        yield address
