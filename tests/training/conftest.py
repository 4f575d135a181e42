"""A tiny configuration, smooth random images, and a run's outcome as something to compare."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from outcome import outcome

from rotvq.data_processing import ImageData, ImageSplit
from rotvq.training import monitor
from rotvq.training.callbacks import Callback
from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig
from rotvq.training.trainer import Trainer

TINY = Config(
    data=DataConfig(source="smooth"),
    model=ModelConfig(width=8, dim=8, depth=1),
    quantizer=QuantizerConfig(codebook_size=16),
    # On a GPU, most steps are replayed, and no hook sees them.
    training=TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3, device="cpu"),
)


def smooth(n: int, channels: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Random images without sharp edges, uint8 (n, c, h, w)."""
    coarse = torch.rand(n, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return fine.mul(256).clamp(0, 255).byte().contiguous().numpy()


@pytest.fixture
def make_data() -> Callable[..., ImageData]:
    def make(
        train: int = 40, test: int = 12, *, channels: int = 3, height: int = 8, width: int = 8,
        seed: int = 0,
    ) -> ImageData:  # fmt: skip
        return ImageData(
            "smooth",
            ImageSplit(smooth(train, channels, height, width, seed)),
            ImageSplit(smooth(test, channels, height, width, seed + 1)),
        )

    return make


@pytest.fixture
def data(make_data: Callable[..., ImageData]) -> ImageData:
    return make_data()


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """The tiny configuration with fields changed: tiny(training={"epochs": 1})."""
    return TINY.replace


@pytest.fixture
def begin() -> Callable[..., Trainer]:
    """A trainer in a new folder."""

    def make(config: Config, data: ImageData, folder: Path) -> Trainer:
        trainer = Trainer(config, data, folder)
        trainer.begin()
        return trainer

    return make


@pytest.fixture
def resumed() -> Callable[..., Trainer]:
    """A new trainer that resumes the run of a folder."""

    def make(config: Config, data: ImageData, folder: Path) -> Trainer:
        trainer = Trainer(config, data, folder)
        trainer.resume()
        return trainer

    return make


@pytest.fixture
def read_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks hear of every step."""
    monkeypatch.setattr(monitor, "READ_EVERY", -1.0)


@pytest.fixture
def callback() -> Callable[..., Callback]:
    """A callback of functions: callback(on_epoch_end=print)."""

    def make(**methods: Callable[..., object]) -> Callback:
        made = Callback()
        for name, method in methods.items():
            assert hasattr(Callback, name)
            setattr(made, name, method)
        return made

    return make


@pytest.fixture
def interrupt_at(callback: Callable[..., Callback]) -> Callable[..., list[Callback]]:
    """Callbacks that send a signal once, after a number of images or of epochs."""

    def make(
        images: int | None = None, epoch: int | None = None, number: signal.Signals = signal.SIGINT
    ) -> list[Callback]:
        sent: list[bool] = []

        def send(due: bool) -> None:
            if due and not sent:
                sent.append(True)
                signal.raise_signal(number)

        return [
            callback(
                on_images=lambda count, means: send(count == images),
                on_epoch_end=lambda record: send(record["epoch"] == epoch),
            )
        ]

    return make


@pytest.fixture(name="outcome")
def outcome_fixture() -> Callable[[Path], dict[str, Any]]:
    return outcome


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Config], dict[str, Any]]:
    """The outcome of a configuration's run in one go, over the usual images."""
    images = ImageData(
        "smooth", ImageSplit(smooth(40, 3, 8, 8, 0)), ImageSplit(smooth(12, 3, 8, 8, 1))
    )

    @cache
    def run(config: Config) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        trainer = Trainer(config, images, folder)
        trainer.begin()
        trainer.run()
        return outcome(folder)

    return run
