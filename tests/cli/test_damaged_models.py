"""Saved models that must make no tokens, whatever command is given them."""

from __future__ import annotations

import math

import pytest
from safetensors.torch import load_file, save_file

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


def save(folder, stages=2, weight=None):
    quantizer = VectorQuantizer(16, 4, channel_dim=1)
    model = VQVAE(width=2, dim=4, depth=0, stages=stages, quantizer=quantizer)
    model.save_pretrained(folder)
    if weight is not None:
        file = folder / "model.safetensors"
        state = load_file(file)
        state["encoder.0.bias"][0] = weight
        save_file(state, file)


@pytest.mark.parametrize(
    "words",
    [
        ("encode", "{images}", "--model", "{model}", "-o", "{out}/a.npz"),
        ("reconstruct", "{images}", "--model", "{model}", "-o", "{out}/seen"),
        ("export", "{model}", "--to", "torch", "-o", "{out}/programs"),
        ("export", "{model}", "--to", "model", "-o", "{out}/copy"),
    ],
    ids=lambda words: " ".join(words[:4:3]),
)
def test_damaged_models_are_refused_in_one_line(rotvq, images, tmp_path, monkeypatch, words):
    with monkeypatch.context() as older:
        older.setattr("rotvq.model.vqvae.MAX_STAGES", 16)
        save(tmp_path / "wall", stages=16)
    save(tmp_path / "nan", weight=math.nan)
    save(tmp_path / "infinite", weight=math.inf)
    for name, message in (
        ("wall", "model.stages: expected at most 8; got 16"),
        ("nan", "numbers that are not finite in encoder."),
        ("infinite", "numbers that are not finite in encoder."),
    ):
        places = {"images": images, "model": tmp_path / name, "out": tmp_path}
        assert message in rotvq(*(word.format(**places) for word in words)).error
