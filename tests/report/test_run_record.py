import json
import math
from pathlib import Path

import pytest
import yaml

from rotvq.errors import UserError
from rotvq.run_record import load_run, load_runs, lookup


def test_a_finished_run_is_read_whole(make_run):
    run = load_run(make_run("rotation", codes=64, epochs=8))

    assert run.label == "rotation"
    assert [epoch.number for epoch in run.epochs] == list(range(1, 9))
    assert run.epochs[0].train["loss"] < run.epochs[0].test["loss"]
    assert run.evaluation.protocol["images"] == "Decoded from the indices alone."
    assert run.codebook_size == len(run.counts) == 64
    assert list(run.pictures) == list(range(1, 9))
    assert run.notes == ()


def test_the_label_of_the_current_folder_is_its_name(make_run, monkeypatch):
    monkeypatch.chdir(make_run("here"))
    assert load_run(Path(".")).label == "here"


def test_equal_folder_names_are_distinguished_by_their_parents(make_run):
    paths = [make_run(name, epochs=1) for name in ("x/a/run", "x/b/run", "other")]
    assert [run.label for run in load_runs(paths)] == ["a/run", "b/run", "other"]


def test_a_run_without_evaluation_takes_its_codebook_size_from_the_configuration(make_run):
    run = load_run(make_run(evaluated=False, codes=32))
    assert run.evaluation is None
    assert (run.counts, run.codebook_size) == ((), 32)


@pytest.mark.parametrize("several", [{"residual": 2}, {"groups": 2}, {"scales": "1,2"}])
def test_the_size_of_one_of_several_codebooks_is_that_of_the_configuration(make_run, several):
    path = make_run(codes=64)
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["quantizer"] |= {"codebook_size": 32, **several}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    run = load_run(path)
    assert len(run.counts) == 64 and run.codebook_size == 32


@pytest.mark.parametrize("torn", ['{"epoch": 9, "tra', "\0\0\0\0", '{"epoch": 9, "a": "\udce9'])
def test_an_incomplete_last_line_is_ignored_with_a_note(make_run, torn):
    path = make_run(epochs=8)
    with (path / "epochs.jsonl").open("ab") as file:
        file.write(torn.encode(errors="surrogateescape"))

    run = load_run(path)

    assert len(run.epochs) == 8
    assert "incomplete" in run.notes[0]


def test_a_repeated_epoch_is_read_from_its_later_line(make_run):
    path = make_run(epochs=3)
    lines = (path / "epochs.jsonl").read_text().splitlines()
    again = json.loads(lines[1]) | {"test": {"psnr": 99.0}}
    (path / "epochs.jsonl").write_text("\n".join([*lines[:2], json.dumps(again), lines[2]]))

    run = load_run(path)

    assert [epoch.number for epoch in run.epochs] == [1, 2, 3]
    assert run.epochs[1].test["psnr"] == 99
    assert "Epoch 2 is recorded twice" in run.notes[0]


def test_null_and_nan_metrics_are_read_as_nan(make_run):
    path = make_run(epochs=1)
    epoch = json.loads((path / "epochs.jsonl").read_text())
    epoch["test"] |= {"psnr": None, "loss": math.nan}
    (path / "epochs.jsonl").write_text(json.dumps(epoch))

    test = load_run(path).epochs[0].test

    assert math.isnan(test["psnr"]) and math.isnan(test["loss"])


def _damage(path: Path, name: str, content: str) -> Path:
    (path / name).write_text(content)
    return path / name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", '{"format": 2,', "damaged"),
        ("run.json", "[1]", "mapping"),
        ("run.json", '{"format": 1}', "got 1, written by an earlier version of rotvq"),
        ("run.json", '{"format": 3}', "got 3, written by a later version of rotvq"),
        ("run.json", "{}", "expected format 2; got None"),
        ("config.yaml", "a: [1", "YAML"),
        ("config.yaml", "just text", "mapping"),
        ("evaluation.json", "", "damaged"),
        ("evaluation.json", '{"format": 7}', "format"),
        ("evaluation.json", '{"format": 2, "images": 3}', "metrics"),
        ("evaluation.json", '{"format": 2, "images": 3, "metrics": {"mse": "low"}}', "metrics.mse"),
        ("evaluation.json", '{"format": 2, "images": 3, "counts": [-1]}', "counts"),
        ("evaluation.json", '{"format": 2, "metrics": {}}', "images"),
        ("evaluation.json", '{"format": 2, "images": 3, "metrics": {}, "levels": 2}', "levels"),
        ("evaluation.json", '{"format": 2, "images": 3, "metrics": {}, "levels": [7]}', "levels"),
        ("epochs.jsonl", "", "completed epoch"),
        ("epochs.jsonl", '{"epo', "completed epoch"),
        ("epochs.jsonl", '{"epo\n{"epoch": 1}\n', "line 1"),
        ("epochs.jsonl", '{"epoch": 0}', "integer from 1"),
        ("epochs.jsonl", '{"epoch": 1}', "train"),
        ("epochs.jsonl", "[]", "mapping"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(make_run, name, content, said):
    path = make_run(epochs=1)
    file = _damage(path, name, content)

    with pytest.raises(UserError) as error:
        load_run(path)

    assert str(error.value).startswith(str(file))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_another_folder_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"expected a run folder; found no run\.json"):
        load_run(tmp_path)


def test_a_run_without_epochs_file_has_no_epochs(make_run):
    path = make_run(epochs=1)
    (path / "epochs.jsonl").unlink()
    with pytest.raises(UserError, match="completed epoch"):
        load_run(path)


def test_no_run_and_the_same_run_twice_are_refused(make_run):
    path = make_run(epochs=1)
    with pytest.raises(UserError, match="one or more"):
        load_runs([])
    with pytest.raises(UserError, match="2 times"):
        load_runs([path, path / ".." / path.name])


def test_lookup_goes_down_dotted_paths():
    assert lookup({"a": {"b": 0}}, "a.b") == 0
    assert lookup({"a": {"b": 0}}, "a.b.c") is None
    assert lookup({"a": None}, "a.b") is None
