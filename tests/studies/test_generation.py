"""A prior over a run's tokens as a measurement: interrupted anywhere, the record is the same."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("transformers")

from rotvq.data_processing import ImageData, ImageSplit
from rotvq.evaluation.rate_distortion import gaussian_distortion, variances
from rotvq.generation.config import PRESETS, TransformerConfig
from rotvq.studies import generation
from rotvq.studies.curves import GUIDANCE, curve
from rotvq.studies.plan import Run
from rotvq.studies.runner import run_plan
from rotvq.studies.study import Generation, Variant
from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig

TINY = Config(
    data=DataConfig(source="noise", train_images=30),
    model=ModelConfig(width=8, dim=8, depth=1),
    quantizer=QuantizerConfig(codebook_size=16),
    training=TrainingConfig(epochs=1, batch_size=8),
)
SIZE = Generation(replace(PRESETS["smoke"], prior=TransformerConfig(16, 1, 2)), 6)


def images(labels: bool = True) -> ImageData:
    random = np.random.default_rng(0)
    splits = [
        ImageSplit(
            random.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8),
            np.arange(n) % 3 if labels else None,
        )
        for n in (36, 12, 9)
    ]
    return ImageData("noise", *splits[:2], validation=splits[2])


def measured(out, data):
    """The folder of a run with its measurement, and the record."""
    run = Run(
        "study", Variant("a", "a", {}), 0, TINY, out / "study/a", ("generation",), SIZE
    )  # fmt: skip
    run_plan([run], data, out, command=lambda run: f"make {run.name}")
    return run.folder, json.loads((run.folder / "generation.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("whole"), images())


def test_the_record_holds_the_bits_and_the_bound_at_them(whole):
    folder, record = whole
    bits = json.loads((folder / "prior/evaluation.json").read_text())["metrics"]
    metrics = record["metrics"]
    assert metrics["bits_per_image"] == bits["bits_per_image"]
    assert metrics["fixed_bits_per_image"] == 16 * math.log2(16)
    expected = gaussian_distortion(variances(images().train.images), bits["bits_per_image"])
    assert metrics["gaussian_distortion"] == pytest.approx(expected)
    tokens = json.loads((folder / "prior/run.json").read_text())["data"]
    assert [tokens[split]["images"] for split in ("train", "test")] == [30, 12]


def test_the_guidance_is_chosen_on_images_held_out(whole):
    metrics = whole[1]["metrics"]
    distances = {s: metrics[curve("frechet_distance", "guidance", s)] for s in GUIDANCE}
    assert metrics["guidance"] == min(distances, key=distances.get)
    assert metrics["frechet_distance"] not in distances.values()
    assert 0 <= metrics["class_accuracy"] <= 1


@pytest.mark.slow
def test_interrupted_while_sampling_it_does_not_train_again(whole, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(generation, "_point", stop)
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path, images())
    before = (tmp_path / "study/a/prior/model.safetensors").read_bytes()
    folder, record = measured(tmp_path, images())
    assert (folder / "prior/model.safetensors").read_bytes() == before
    assert record["metrics"] == whole[1]["metrics"]


def test_without_labels_the_bits_alone_are_measured(tmp_path):
    metrics = measured(tmp_path, images(labels=False))[1]["metrics"]
    assert metrics["bits_per_token"] > 0
    assert not any("frechet" in name or "without_class" in name for name in metrics)
