"""A folder of small PNGs, the options of a tiny run, and the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from rotvq.cli.main import main

TINY = (
    "--model.width 8 --model.dim 8 --model.depth 1 --quantizer.codebook_size 16 "
    "--training.batch_size 8 --training.epochs 2"
).split()


def write_images(folder: Path, splits: dict[str, int], height: int = 16, width: int = 16) -> Path:
    """PNGs in folder/split/."""
    generator = torch.Generator().manual_seed(0)
    for split, n in splits.items():
        coarse = torch.rand(n, 3, 3, 3, generator=generator)
        fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        pixels = fine.mul(256).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        (folder / split).mkdir(parents=True)
        for i, image in enumerate(pixels):
            Image.fromarray(np.ascontiguousarray(image)).save(folder / split / f"{i:04d}.png")
    return folder


@pytest.fixture
def make_images() -> Callable[..., Path]:
    return write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training and 12 test images of 16x16."""
    return write_images(tmp_path_factory.mktemp("data") / "smooth", {"train": 40, "test": 12})


@pytest.fixture
def tiny(images: Path) -> list[str]:
    """Options of a run of a fraction of a second."""
    return ["--data", str(images), *TINY]


class Answer(NamedTuple):
    """What a command left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a user's mistake deserves."""
        assert self.status == 2, self
        assert self.err.startswith("rotvq: "), self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err


@pytest.fixture
def rotvq(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command line here."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return Answer(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def _trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--data", str(images), *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """A finished run, one's own to spoil."""
    return Path(shutil.copytree(_trained, tmp_path / "trained"))
