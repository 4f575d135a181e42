"""What run.json and the evaluation say about the images and the machine."""

from __future__ import annotations

import json
import math
from importlib.metadata import version

import numpy as np
import pytest
import torch

from rotvq import run_folder
from rotvq.data_processing import ImageSplit
from rotvq.errors import UserError
from rotvq.run_record import load_run
from rotvq.training import environment
from rotvq.training.trainer import Trainer


def test_limits_take_images_spread_over_the_split(tmp_path, data, tiny, begin):
    config = tiny(data={"train_images": 16, "test_images": 5}, training={"epochs": 1})
    record = begin(config, data, tmp_path / "run").run()
    assert record["images"] == 5
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["data"]["train"] == {
        "images": 16,
        "channels": 3,
        "height": 8,
        "width": 8,
        "fingerprint": ImageSplit(data.train.images[np.arange(16) * 40 // 16]).fingerprint(),
    }


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 16), (1, 20, 12)])
def test_gray_and_oblong_images_train(tmp_path, make_data, tiny, begin, channels, height, width):
    data = make_data(train=16, channels=channels, height=height, width=width)
    config = tiny(model={"channels": channels}, training={"epochs": 1})
    record = begin(config, data, tmp_path / "run").run()
    tokens = (height // 4) * (width // 4)
    assert sum(record["counts"]) == 12 * tokens
    assert record["metrics"]["bits_per_image"] == tokens * 4
    assert record["metrics"]["bits_per_pixel"] == tokens * 4 / (height * width)
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["model"]["tokens"] == tokens
    assert run["model"]["bits_per_image"] == tokens * 4


def test_run_json_records_what_ran(tmp_path, data, tiny):
    trainer = Trainer(tiny(), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    trainer.begin("rotvq train --out run")
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["format"] == run_folder.FORMAT
    assert run["command"] == "rotvq train --out run"
    assert run["hardware"]["device"] == "cpu"
    assert run["precision"] == environment.resolve_precision("auto", torch.device("cpu"))
    assert run["data"]["name"] == "smooth"
    assert run["data"]["test"]["fingerprint"] == data.test.fingerprint()
    assert run["model"]["parameters"] == sum(p.numel() for p in trainer.model.parameters())
    assert run["versions"]["torch"] == version("torch")


def test_images_with_odd_sides_are_refused(tmp_path, make_data, tiny, begin):
    with pytest.raises(UserError, match=r"divisible by 4 .*; got 10x8") as error:
        begin(tiny(), make_data(height=10), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", [1, 5, 7])
def test_fewer_images_than_a_batch_are_repeated_with_a_note(
    tmp_path, make_data, tiny, begin, images
):
    trainer = begin(tiny(training={"epochs": 1}), make_data(train=images), tmp_path / "run")
    trainer.run()
    assert trainer.position.images >= 8
    (note,) = json.loads((tmp_path / "run/run.json").read_text())["data"]["notes"]
    times = -(-8 // images)
    assert note == f"{images} images do not fill a batch: each epoch repeats them {times} times."


@pytest.mark.parametrize("several", [{"residual": 3}, {"groups": 2}, {"residual": 2, "groups": 2}])
def test_bits_count_every_codebook(tmp_path, data, tiny, begin, several):
    options = {"init": "data", "restart": 0.1, **several}
    config = tiny(quantizer=options, training={"epochs": 1})
    record = begin(config, data, tmp_path / "run").run()
    codebooks = math.prod(several.values())
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["model"]["bits_per_image"] == 4 * 4 * codebooks
    assert record["metrics"]["bits_per_image"] == 4 * 4 * codebooks
    assert len(record["codebooks"]) == codebooks
    assert sum(record["counts"]) == 12 * 4 * codebooks
    (epoch,) = (tmp_path / "run/epochs.jsonl").read_text().splitlines()
    assert set(json.loads(epoch)["codebook"]) == {"dead", "oldest", "perplexity", "spread"}
    assert load_run(tmp_path / "run").codebook_size == 16
