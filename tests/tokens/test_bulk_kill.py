"""An encoder of shards that is killed: see robustness/shards.py, which does so more often."""

import pytest
import shards


@pytest.mark.slow
def test_killed_encoders_make_the_same_bytes(tmp_path):
    kills, runs, _ = shards.killed_runs(tmp_path, 2, seed=0)
    assert kills.total() >= 4 and runs >= 1
