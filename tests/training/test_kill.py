"""Runs killed at random moments end as one left alone; `make kill` kills many more."""

import json
import os
import subprocess
import sys
from pathlib import Path

KILL = Path(__file__).parents[2] / "robustness/kill.py"


def test_killed_runs_end_like_an_uninterrupted_one(tmp_path):
    words = ["--kills", "15", "--seed", "1", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, KILL, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "kill.json").read_text())
    assert record["kills"] >= 15 and record["different"] == 0
    assert len(record["by_part"]) >= 4
