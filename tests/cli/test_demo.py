"""rotvq demo."""

from __future__ import annotations

import json
import re

from rotvq.training.folder import read_config
from rotvq.training.presets import PRESETS


def test_the_small_demo_compares_two_estimators_and_is_done_once(rotvq, tmp_path):
    out = tmp_path / "demo"
    answer = rotvq("demo", "--preset", "smoke", "--out", out, "--seed", 3)
    assert (answer.status, answer.err) == (0, "")
    assert f"Report on both runs: {out / 'report.html'}\n" in answer.out
    configs = {name: read_config(out / name) for name in ("straight_through", "rotation")}
    for name, config in configs.items():
        assert config.quantizer.estimator == name
        assert config.training.seed == 3
        assert config.model == PRESETS["smoke"].model
        assert json.loads((out / name / "evaluation.json").read_text())["images"] == 128
    page = (out / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    columns = set(re.findall(r'<th scope="col">(\w+)</th>', page))
    assert {"straight_through", "rotation"} <= columns
    weights = (out / "rotation/checkpoint.pt").stat().st_mtime_ns
    again = rotvq("demo", "--preset", "smoke", "--out", out, "--seed", 3)
    assert again.status == 0
    assert (out / "rotation/checkpoint.pt").stat().st_mtime_ns == weights, "not trained again"
    other = rotvq("demo", "--preset", "smoke", "--out", out, "--seed", 4)
    assert "training.seed: 3 → 4" in other.error


def test_bad_options_are_one_line(rotvq):
    assert "'huge'" in rotvq("demo", "--preset", "huge").error
    assert "--seed" in rotvq("demo", "--seed", "x").error


def test_a_folder_of_another_program_is_left_alone(rotvq, tmp_path):
    (tmp_path / "straight_through").mkdir()
    (tmp_path / "straight_through/notes.txt").write_text("mine")
    answer = rotvq("demo", "--preset", "smoke", "--out", tmp_path, "--overwrite")
    assert "other files" in answer.error
    assert (tmp_path / "straight_through/notes.txt").read_text() == "mine"
