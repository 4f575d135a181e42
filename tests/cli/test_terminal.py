"""Bars that fit 80 columns, lines where there is no terminal, durations in words."""

from __future__ import annotations

import re
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from rotvq.cli.progress import TrainingProgress, epoch_lines
from rotvq.cli.study_progress import StudyProgress
from rotvq.cli.terminal import Terminal, counted, duration
from rotvq.evaluation.metrics import Means
from rotvq.studies.paper import SUITE
from rotvq.studies.plan import make_plan
from rotvq.training.config import Config

WORST = Means(
    loss=1234.5678, reconstruction_loss=0.12345, codebook_loss=0.1, commitment_loss=0.1,
    perplexity=65535.4, batch_perplexity=60000.0, usage=1.0, relative_error=1.234,
)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (1.6, "2 s"), (89, "89 s"), (89.9, "90 s"), (90, "2 min"), (151, "3 min"),
     (3569, "59 min"), (3599, "1 h 00 min"), (3600, "1 h 00 min"), (3900, "1 h 05 min"),
     (36000, "10 h 00 min"), (360000, "100 h 00 min")],
)  # fmt: skip
def test_durations_are_readable(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1200, 5000, 3.0), "1,200 of 5,000 images, 400 images/s, 10 s left"),
        ((1200, 5000, 1.0, 800), "1,200 of 5,000 images, 400 images/s, 10 s left"),
        ((1200, None, 3.0), "1,200 images, 400 images/s"),
        ((128, 5000, 0.0), "128 of 5,000 images, 128,000 images/s, 0 s left"),
    ],
)
def test_progress_counts_the_speed_since_the_start(values, said):
    assert counted(*values) == said


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until `clock.now` is set."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("time.monotonic", lambda: time.now)
    return time


def drawing(terminal: Terminal) -> StringIO:
    """Make it draw on a terminal of 80 columns that is text."""
    text = StringIO()
    terminal.console = Console(
        file=text, width=80, height=25, force_terminal=True, soft_wrap=True, highlight=False,
        color_system=None, legacy_windows=False,
    )  # fmt: skip
    return text


def drawn(text: StringIO) -> list[str]:
    """The lines of all that was drawn."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


def trainer(epoch: int = 0, images: int = 0) -> SimpleNamespace:
    """Ten epochs of a thousand batches, of which some are done."""
    return SimpleNamespace(
        images_per_epoch=128_000,
        position=SimpleNamespace(images=images, epoch=epoch),
        model=torch.nn.Linear(2, 2),
        precision="fp32",
        device="cpu",
        samples=SimpleNamespace(note=None),
    )


def training(epochs: int = 100) -> Config:
    return Config().replace(training={"epochs": epochs})


def record() -> dict:
    values = vars(WORST)
    return {
        "epoch": 100,
        "train": values,
        "test": {**values, "psnr": 13.456},
        "timing": {"images_per_second": 123456.0},
        "codebook": {"dead": 65535, "oldest": 123456},
    }


def test_training_in_80_columns_shows_epoch_bar_speed_and_time_with_details_below():
    progress = TrainingProgress(training())
    text = drawing(progress)
    with progress.following(trainer(99, 99 * 128_000)) as callback:
        callback.on_images(99 * 128_000 + 64_000, WORST)
        callback.on_epoch_end(record())
        callback.on_images(99 * 128_000 + 96_000, WORST)
    _, *lines = drawn(text)
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    place = next(i for i, line in enumerate(lines) if re.match("epoch 100/100 [━╸╺ ]+", line))
    assert re.search(r"images/s +-?[-:\d]+$", lines[place].strip()), lines[place]
    assert lines[-1].startswith("loss 1234.5678  mse 0.1235  perplexity 65535  usage 100%")


def test_studies_in_80_columns_show_how_much_is_left_with_the_run_below(tmp_path):
    plan = make_plan(SUITE, "smoke", tmp_path, studies=["table3"])
    progress = StudyProgress(plan)
    text = drawing(progress)
    data = SimpleNamespace(train=SimpleNamespace(images=range(600)))
    with progress.following(data) as callback:
        callback.on_run_begin(plan[0])
        callback.on_images(512, WORST)
    _, *lines = drawn(text)
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert re.match(r"all runs [━╸╺ ]+ \d+ %, .* left", lines[-2])
    assert lines[-1].rstrip() == f"{plan[0].name}  mse 0.1235"


def test_an_epoch_is_two_lines_of_at_most_80_columns():
    first, second = epoch_lines(record(), training().replace(data={"validation": 5}))
    assert first.startswith("epoch 100  train mse 0.1235  validation mse 0.1235  psnr 13.46 dB")
    assert "65,535 dead" in second and second.endswith("123,456 images/s")
    assert max(len(first), len(second)) <= 80


def test_without_a_terminal_progress_is_a_line_a_minute(capsys, clock):
    progress = TrainingProgress(training(10))
    with progress.following(trainer()) as callback:
        capsys.readouterr()
        for seconds in range(1, 200):  # 128 images a second
            clock.now += 1
            callback.on_images(128 * seconds, WORST)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(
        "epoch 1/10: 7,680 of 1,280,000 images, 128 images/s, 2 h 46 min left, loss 1234.5678"
    )
    assert "mse" in lines[0]


def test_epoch_lines_postpone_the_next_progress_line(capsys, clock):
    progress = TrainingProgress(training(10))
    with progress.following(trainer()) as callback:
        for seconds in range(1, 200):
            clock.now += 1
            callback.on_images(128 * seconds, WORST)
            if seconds % 50 == 0:
                callback.on_epoch_end(record())
    assert "of 1,280,000 images" not in capsys.readouterr().out


def test_counting_without_a_terminal_is_a_line_a_minute_too(capsys, clock):
    with Terminal().counting(1000, "Encoding") as advance:
        for _ in range(10):
            clock.now += 13
            advance(100)
    assert capsys.readouterr().out.splitlines() == [
        "Encoding: 500 of 1,000 images, 8 images/s, 65 s left",
        "Encoding: 1,000 of 1,000 images, 8 images/s, 0 s left",
    ]


def test_one_of_several_processes_prints_nothing(capsys, clock):
    progress = TrainingProgress(training(10), quiet=True)
    with progress.following(trainer()) as callback:
        clock.now += 100
        callback.on_images(128, WORST)
    assert capsys.readouterr().out == ""
