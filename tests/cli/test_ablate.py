"""rotvq ablate: two steps from the command line to the report."""

from __future__ import annotations

import json


def test_steps_are_trained_once_and_reported(rotvq, tmp_path):
    steps = ("--variants", "paper", "one_cycle", "--seeds", 1)
    words = ("ablate", "steps", "--preset", "smoke", *steps)
    answer = rotvq(*words, "--out", tmp_path)
    assert (answer.status, answer.err) == (0, "")
    assert "512 training, 128 validation and 128 test images" in answer.out
    for name in ("paper", "one_cycle"):
        folder = tmp_path / "steps" / name / "seed_0"
        assert json.loads((folder / "evaluation.json").read_text())["images"] == 128
        assert json.loads((folder / "run.json").read_text())["data"]["validation"]["images"] == 128
    markdown = (tmp_path / "ablations.md").read_text()
    assert "| the paper's recipe |" in markdown
    assert "Runs not finished yet: steps/restarts/seed_0" in markdown
    before = (tmp_path / "steps/one_cycle/seed_0/evaluation.json").read_bytes()
    again = rotvq(*words, "--out", tmp_path)
    assert again.status == 0 and "test MSE" not in again.out
    assert (tmp_path / "steps/one_cycle/seed_0/evaluation.json").read_bytes() == before


def test_unknown_names_list_those_that_exist(rotvq):
    assert all(n in rotvq("ablate", "table2").error for n in ("steps", "options", "codebooks"))
    assert "restarts" in rotvq("ablate", "steps", "--variants", "k_256").error
