"""rotvq export: what it writes, says and refuses."""

from __future__ import annotations

import pytest

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("to, ending", [("torch", "pt2"), ("onnx", "onnx")])
def test_programs(rotvq, trained, tmp_path, to, ending):
    out = tmp_path / "caf\udce9"  # a name that is not UTF-8
    answer = rotvq("export", trained, "--to", to, "-o", out)
    assert (answer.status, answer.err) == (0, "")
    assert names(out) == [f"decoder.{ending}", f"encoder.{ending}"]
    assert "0.00% of the indices differ" in answer.out


def test_a_token_may_be_larger_than_a_photograph(rotvq, tmp_path):
    quantizer = VectorQuantizer(16, 4, channel_dim=1)
    model = VQVAE(width=2, dim=4, depth=0, stages=8, quantizer=quantizer)
    model.save_pretrained(tmp_path / "m")
    answer = rotvq("export", tmp_path / "m", "--to", "torch", "-o", tmp_path / "e")
    assert (answer.status, answer.err) == (0, "")


def test_a_model_with_its_card(rotvq, trained, tmp_path):
    answer = rotvq("export", trained, "--to", "model", "-o", tmp_path / "m")
    assert (answer.status, answer.err) == (0, "")
    assert names(tmp_path / "m") == ["README.md", "config.json", "model.safetensors"]
    card = (tmp_path / "m/README.md").read_text()
    assert card.startswith("---\nlibrary_name: rotvq\n")
    assert "| PSNR, dB |" in card and "12 images of the test split of smooth" in card
    assert "codebook_size: 16" in card and str(tmp_path) not in card
    again = rotvq("export", tmp_path / "m", "--to", "model", "-o", tmp_path / "n")
    assert again.status == 0
    assert (tmp_path / "n/config.json").read_bytes() == (tmp_path / "m/config.json").read_bytes()
    assert VQVAE.from_pretrained(tmp_path / "n").stride == 4


def test_a_model_is_pushed_to_the_hub(rotvq, trained, tmp_path, monkeypatch):
    pushed = []

    def push(self, name, private, card):
        pushed.append((name, private, card))
        return "https://hub/owner/name"

    monkeypatch.setattr(VQVAE, "push_to_hub", push)
    words = ("export", trained, "--to", "model", "-o", tmp_path / "m", "--push", "owner/name")
    answer = rotvq(*words, "--private")
    assert "https://hub/owner/name" in answer.out
    assert pushed == [("owner/name", True, (tmp_path / "m/README.md").read_text())]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--to", "zip"], "invalid choice: 'zip'"),
        (["--to", "onnx", "--push", "a/b"], "--push: expected --to model"),
        (["--to", "model", "--private"], "--private: expected --push"),
    ],
)
def test_bad_options_are_one_line(rotvq, trained, tmp_path, words, message):
    assert message in rotvq("export", trained, "-o", tmp_path / "e", *words).error
    assert not (tmp_path / "e").exists()


def test_nonempty_folders_and_missing_models_are_refused(rotvq, trained, tmp_path):
    assert "is not empty" in rotvq("export", trained, "--to", "torch", "-o", trained).error
    error = rotvq("export", tmp_path / "no", "--to", "torch", "-o", tmp_path / "e").error
    assert "expected the folder of a saved model" in error


def test_a_package_that_is_missing(rotvq, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    error = rotvq("export", trained, "--to", "onnx", "-o", tmp_path / "e").error
    assert "pip install 'rotvq[onnx]'" in error


def test_programs_that_fail_their_check_replace_nothing(rotvq, trained, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert rotvq("export", trained, "--to", "torch", "-o", out).status == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr("rotvq.export.TIES", -1.0)
    answer = rotvq("export", trained, "--to", "torch", "-o", out, "--overwrite")
    assert answer.status == 2 and "expected the outputs of the model" in answer.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_damaged_record_is_one_line(rotvq, trained, tmp_path):
    (trained / "evaluation.json").write_text("{")
    answer = rotvq("export", trained, "--to", "model", "-o", tmp_path / "out")
    assert answer.status == 2 and "expected JSON; Expecting" in answer.err
    assert f"rotvq evaluate {trained}" in answer.err
