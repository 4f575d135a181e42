"""For all tests: one thread, and shapes in signatures checked.

One thread, as the tensors are small and the machine may be shared. Shapes in signatures are
checked at run time in tests, and only there.

Quantization and model are left out, as torch.compile cannot trace the checks; test_shapes.py
checks theirs.
"""

import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Triton reads it when the kernels are imported, whichever test does that first.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

install_import_hook(["rotvq.evaluation", "rotvq.training.pictures"], "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="session")
def parse_html():
    """From HTML to its `elements` (with the names of their attributes) and its `text`."""
    return Page


@pytest.fixture(scope="session")
def markdown_renderers():
    """Functions from Markdown to HTML, by the name of their dialect."""
    markdown_it = pytest.importorskip("markdown_it")
    python_markdown = pytest.importorskip("markdown")
    return {
        "CommonMark with tables": markdown_it.MarkdownIt("js-default", {"html": True}).render,
        "Python-Markdown": lambda text: python_markdown.markdown(text, extensions=["extra"]),
    }


SLOW = (
    "cli/test_no_network.py",
    "cli/test_reproduce.py",
    "studies/test_reproduction.py",
    "quantization/test_kernels_compiled.py",
    "quantization/test_quantizer_compiled.py",
    "quantization/test_quantizer_distributed.py",
    "quantization/test_wrappers.py",
    "report/test_browser.py",
    "serving/test_load.py",
    "serving/test_page.py",
    "test_examples.py",
    "test_export.py",
    "test_wheel.py",
    "training/test_kill.py",
    "training/test_processes.py",
)
"""Files whose tests `make test` leaves to `make test-slow`."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)
