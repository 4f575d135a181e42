"""rotvq sweep: every combination, resumed where it stopped, and the comparison."""

from __future__ import annotations

import json

import pytest

from rotvq.cli import train
from rotvq.cli.sweep import _plan


@pytest.fixture
def sweep(rotvq, tiny, tmp_path):
    def sweep(*words):
        return rotvq("sweep", *tiny, "--training.epochs", 1, *words, "--out", tmp_path / "sweep")

    return sweep


@pytest.mark.slow
def test_every_combination_is_a_run_and_finished_ones_are_kept(sweep, tmp_path, monkeypatch):
    words = ("--vary", "training.seed=0,1", "--vary", "quantizer.estimator=rotation,reflection")
    execute, begun = train.execute, []

    def stopping(config, options, command):
        begun.append(options.out.name)
        return 130 if len(begun) == 3 else execute(config, options, command)

    monkeypatch.setattr(train, "execute", stopping)
    names = [f"seed={s},estimator={e}" for s in (0, 1) for e in ("rotation", "reflection")]
    answer = sweep(*words)
    assert answer.status == 130 and begun == names[:3]
    assert "Run the same command to resume the sweep." in answer.out
    assert not (tmp_path / "sweep/report.html").exists()

    begun.clear()
    begun += ["", "", ""]
    answer = sweep(*words)
    assert (answer.status, answer.err) == (0, "")
    assert begun[3:] == names[2:]
    assert answer.out.count("finished before.") == 2
    assert sorted(path.name for path in (tmp_path / "sweep").glob("seed=*")) == sorted(names)
    last = tmp_path / "sweep" / names[3]
    assert (
        "--training.seed=1 --quantizer.estimator=reflection"
        in json.loads((last / "run.json").read_text())["command"]
    )
    page = (tmp_path / "sweep/report.md").read_text()
    assert all(name in page for name in names)


@pytest.mark.slow
def test_a_run_that_fails_does_not_keep_the_others_from_being_trained(sweep, tmp_path):
    answer = sweep("--vary", "training.learning_rate=1e30,0.001")
    assert answer.status == 2
    assert answer.error == "rotvq: 1 of 2 runs failed: learning_rate=1e30.\n"
    assert (tmp_path / "sweep/learning_rate=0.001/evaluation.json").exists()
    assert "learning_rate=0.001" in (tmp_path / "sweep/report.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--vary: expected OPTION=A,B; got none"),
        (("--vary", "training.seed"), "such as training.learning_rate=1e-3,2e-3"),
        (("--vary", "training.seed=1,,2"), "such as training.learning_rate=1e-3,2e-3"),
        (("--vary", "training.seed=1,1"), "expected different values; got one of them twice"),
        (("--vary", "training.seed=1,x"), "training.seed: expected int; got x"),
        (("--vary", "training.no=1"), "training.no"),
        (("--vary", "training.seed=1", "--overwrite"), "--overwrite: expected a sweep"),
    ],
)
def test_bad_words_are_refused_before_anything_is_trained(sweep, tmp_path, words, message):
    assert message in sweep(*words).error
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("not enough memory\nmore")])
def test_a_run_without_memory_does_not_keep_the_others_from_being_trained(
    sweep, monkeypatch, error
):
    begun = []

    def execute(config, options, command):
        begun.append(config.model.width)
        if config.model.width == 64:
            raise error
        return 0

    monkeypatch.setattr(train, "execute", execute)
    answer = sweep("--vary", "model.width=8,64,16")
    assert begun == [8, 64, 16]
    assert answer.error == "rotvq: 1 of 3 runs failed: width=64.\n"
    assert str(error).partition("\n")[0] in answer.out


@pytest.mark.slow
def test_another_configuration_in_the_same_folder_is_refused(sweep):
    assert sweep("--vary", "training.seed=0").status == 0
    error = sweep("--vary", "training.seed=0", "--training.beta", "1").error
    assert "training.beta: 0.25 → 1.0" in error


@pytest.mark.slow
def test_values_with_commas_are_separated_by_semicolons(sweep, tmp_path):
    answer = sweep(
        "--vary", "quantizer.levels=4,4;2,8", "--quantizer.codebook_size", 16, "--model.dim", 2
    )
    assert answer.status == 0
    folders = {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()}
    assert {"levels=4,4", "levels=2,8"} <= folders


def test_long_values_have_folders_of_their_own(tmp_path):
    long = "/".join(["a" * 50] * 4)
    varied = [f"data.source={long}/b,{long}/c", "training.seed=0,1"]
    planned = _plan(varied, ["--preset", "smoke"], tmp_path)
    assert len({each.options.out for each in planned}) == 4
    assert all(len(each.options.out.name) <= 150 for each in planned)
