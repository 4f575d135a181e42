"""The model card of a run that someone made up: its text stays text, its faults are one line."""

import json
from dataclasses import asdict

import pytest
import yaml

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer
from rotvq.training.card import card
from rotvq.training.config import Config
from rotvq.training.folder import read_config

EVIL = [
    "<script>alert(1)</script>",
    "a\n```\n\n<script>alert(1)</script>\n\n```",
    "a\r\r<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) `b` *c*",
    "a | b\n# c",
    "- d {: onclick=alert(1)}",
]


@pytest.fixture(scope="module")
def model():
    return VQVAE(width=8, dim=4, depth=1, quantizer=VectorQuantizer(8, 4, channel_dim=1))


def write_run(folder, text="text"):
    """A run of which `text` is everything that can be one."""
    private = {"data": {"source": text}, "training": {"init_from": text}}
    config = asdict(Config().replace(**private))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = {
        "format": 2, "rotvq": text, "precision": text, "versions": {"torch": text},
        "hardware": {"name": text}, "data": {"name": text}, "model": {"parameters": 1234},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "epochs.jsonl").write_text('{"epoch": 1, "train": {}, "test": {}, "timing": {}}')
    evaluation = {
        "format": 2, "split": text, "images": 12, "metrics": {"mse": 0.25, "psnr": None},
        "protocol": {text: text},
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


@pytest.mark.parametrize("text", EVIL)
def test_text_of_the_run_is_no_markup(
    model, tmp_path, text, monkeypatch, parse_html, markdown_renderers
):
    (tmp_path / "evil").mkdir()
    (tmp_path / "plain").mkdir()
    plain = card(model, write_run(tmp_path / "plain"))
    config = read_config(tmp_path / "plain")
    object.__setattr__(config.data, "size", text)  # as if a field took any text
    monkeypatch.setattr("rotvq.training.card.read_config", lambda folder: config)
    found = card(model, write_run(tmp_path / "evil", text))
    plain_markdown = pytest.importorskip("markdown").markdown
    for render in (*markdown_renderers.values(), plain_markdown):
        assert parse_html(render(found)).elements == parse_html(render(plain)).elements


def test_the_numbers_of_the_record(model, tmp_path):
    text = card(model, write_run(tmp_path))
    assert "12 images of the text split of text" in text
    assert "| MSE on [-1, 1] | 0.25 |" in text and "| PSNR, dB | nan |" in text
    assert "RotVQ text, torch text, text on text, 1,234 parameters." in text
    assert "      codebook_size: 1024\n" in text and "source" not in text
    assert "init_from" not in text


def test_a_run_without_evaluation_has_no_numbers(model, tmp_path):
    (write_run(tmp_path) / "evaluation.json").unlink()
    assert "Results" not in card(model, tmp_path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("evaluation.json", '{"format": 2, "images": 1, "metrics": {"mse": "a"}}', "metrics.mse"),
        ("evaluation.json", '{"format": 2, "metrics": {}}', "images"),
        ("run.json", "[]", "mapping"),
        ("config.yaml", "data: 3", "configuration"),
        ("epochs.jsonl", "", "completed epoch"),
    ],
)
def test_a_damaged_record_is_one_line(model, tmp_path, name, content, message):
    (write_run(tmp_path) / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        card(model, tmp_path)
    assert "\n" not in str(error.value)


def test_a_residual_run_lists_its_bitrates(model, tmp_path):
    folder = write_run(tmp_path)
    record = json.loads((folder / "evaluation.json").read_text())
    levels = [
        {"levels": n, "bits_per_image": 4 * n, "mse": 0.5 / n, "psnr": 9.0, "ssim": None}
        for n in (1, 2)
    ]
    (folder / "evaluation.json").write_text(json.dumps(record | {"levels": levels}))
    text = card(model, folder)
    assert "| levels | bits per image | MSE on [-1, 1] | PSNR, dB | SSIM |" in text
    assert "| 1 | 4 | 0.5 | 9 | nan |\n| 2 | 8 | 0.25 | 9 | nan |\n" in text
