"""What training says about quantizers of every kind."""

from __future__ import annotations

import json

LEVELS = "--quantizer.levels 8,5,5,5 --quantizer.codebook_size 1000 --model.dim 4".split()


def test_a_grid_whose_codes_are_hardly_used_trains_and_resumes(rotvq, tiny, tmp_path):
    run = tmp_path / "run"
    answer = rotvq("train", *tiny, *LEVELS, "--training.epochs", 3, "--out", run)
    assert answer.status == 0 and "The codebook is collapsing" in answer.out
    more = rotvq("train", "--out", run, "--resume", "--training.epochs", 4)
    assert (more.status, more.err) == (0, "")
    records = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert {*records[-1]["codebook"]} <= {"warning"}, "a grid has no statistics"
