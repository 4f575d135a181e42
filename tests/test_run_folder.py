"""The schema of a run's folder: names, formats, what is written and read back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.training.config import Config


def write_run(folder, version):
    run_folder.write_config(folder, asdict(Config()))
    (folder / "run.json").write_text(json.dumps({"format": version}))


def test_the_configuration_is_read_back(tmp_path):
    write_run(tmp_path, run_folder.FORMAT)
    assert run_folder.is_run(tmp_path)
    assert run_folder.read_config(tmp_path) == asdict(Config())


@pytest.mark.parametrize(
    ("version", "whose"),
    [(1, "an earlier version"), (3, "a later version"), (True, "an unknown"), ("2", "an unknown")],
)
def test_a_run_of_another_format_is_refused_in_one_line(tmp_path, version, whose):
    write_run(tmp_path, version)
    for read in (run_folder.read_config, lambda f: run_folder.read_record(f, run_folder.RUN)):
        with pytest.raises(UserError, match=rf"run\.json: expected format 2; .*{whose}") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)
        assert "again in another folder" in str(error.value)


def test_epochs_are_replaced_as_a_whole(tmp_path):
    history = [{"epoch": 1, "note": "γ"}, {"epoch": 2, "note": ""}]
    run_folder.write_epochs(tmp_path, history)
    run_folder.write_epochs(tmp_path, history[:1])
    assert (tmp_path / "epochs.jsonl").read_text(encoding="utf-8") == '{"epoch": 1, "note": "γ"}\n'
    assert run_folder.read_epochs(tmp_path) == ['{"epoch": 1, "note": "γ"}'.encode()]


def test_the_epochs_are_a_table_too(tmp_path):
    history = [
        {"epoch": 1, "train": {"loss": 0.5}, "test": {}, "codebook": {"spread": [0.0, 2.5]}},
        {"epoch": 2, "train": {"loss": math.nan}, "test": {"psnr": 20.5}, "codebook": {}},
    ]
    run_folder.write_epochs(tmp_path, history)
    assert (tmp_path / "epochs.csv").read_text(encoding="utf-8") == (
        "epoch,train.loss,codebook.spread.0,codebook.spread.1,test.psnr\n"
        "1,0.5,0.0,2.5,\n"
        "2,nan,,,20.5\n"
    )
    table = pytest.importorskip("pandas").read_csv(tmp_path / "epochs.csv")
    assert list(table["epoch"]) == [1, 2] and table["test.psnr"].max() == 20.5


def test_a_run_without_a_completed_epoch_has_no_lines(tmp_path):
    assert run_folder.read_epochs(tmp_path) == []


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"expected a run folder; found no config\.yaml") as error:
        run_folder.read_config(tmp_path)
    assert str(tmp_path) in str(error.value)
