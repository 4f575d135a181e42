"""Run folders: who may write where, and what is read back."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.files import write_atomically
from rotvq.training.config import Config, TrainingConfig
from rotvq.training.folder import check_free, check_same_data, prepare, prepare_resume, read_config


def one_line(error, *, about):
    text = str(error.value)
    assert "\n" not in text
    assert str(about) in text


def test_a_new_folder_is_made_with_its_configuration(tmp_path, tiny):
    config = tiny(data={"source": "Größe", "size": 16}, quantizer={"restart": 0.03})
    folder = tmp_path / "a/b/run"
    prepare(folder, config)
    assert run_folder.is_run(folder)
    assert read_config(folder) == config
    values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert list(values) == ["data", "model", "quantizer", "training"]
    assert values["training"]["learning_rate"] == 0.001
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "reconstructions"]


@pytest.mark.parametrize("rate", [1e-3, 2e-4, 1e-5, 3e-7, 1e30, 5e-324])
def test_every_number_round_trips_through_yaml(tmp_path, rate):
    config = Config(training=TrainingConfig(learning_rate=rate))
    prepare(tmp_path / "run", config)
    assert read_config(tmp_path / "run") == config


def test_an_empty_folder_is_accepted(tmp_path):
    prepare(tmp_path, Config())
    assert run_folder.is_run(tmp_path)


def test_a_run_is_not_replaced_without_overwrite(tmp_path, tiny):
    prepare(tmp_path / "run", tiny())
    for call in (check_free, lambda f: prepare(f, Config())):
        with pytest.raises(UserError, match=r"--resume.*--overwrite") as error:
            call(tmp_path / "run")
        one_line(error, about=tmp_path / "run")
    assert read_config(tmp_path / "run") == tiny()


def test_overwrite_removes_the_runs_own_files_and_no_others(tmp_path, tiny):
    folder = tmp_path / "run"
    prepare(folder, tiny())
    own = [
        "run.json", "epochs.jsonl", "epochs.csv", "evaluation.json", "evaluation-train.json",
        "checkpoint.pt", "model.safetensors", "reconstructions/epoch_0001.png", "report.html",
        "report.md",
        "figures/curves.png",
    ]  # fmt: skip
    others = ["notes.txt", "mine/checkpoint.pt", "config.yaml.bak"]
    for name in [*own, *others]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    prepare(folder, Config(), overwrite=True)
    assert read_config(folder) == Config()
    assert [name for name in own if (folder / name).exists()] == []
    assert all((folder / name).read_text() == "old" for name in others)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "figures").mkdir()
    with pytest.raises(UserError, match="holds other files") as error:
        prepare(tmp_path, Config(), overwrite=overwrite)
    one_line(error, about=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "thesis.tex"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path, overwrite):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="is a file") as error:
        check_free(tmp_path / "run", overwrite)
    one_line(error, about=tmp_path / "run")
    assert (tmp_path / "run").read_text() == "a file"


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="expected a run folder; found no") as error:
        read_config(tmp_path)
    one_line(error, about=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00binary",
        b"data: [1, 2",
        b"- a\n- list\n",
        b"a string",
        b"data: {}\nmodel: {}\nquantizer: {}\n",
        b"data: {}\nmodel: {}\nquantizer: {}\ntraining: 5\n",
        b"data: {}\nmodel: {}\nquantizer: {}\ntraining: {epochs: many}\n",
        b"data: {}\nmodel: {}\nquantizer: {}\ntraining: {epochs: 0}\n",
        b"data: {}\nmodel: {}\nquantizer: {}\ntraining: {epoch: 3}\n",
        b"data: {}\nmodel: {width: null}\nquantizer: {}\ntraining: {}\n",
        b"!!python/object/apply:os.system ['true']",
    ],
)
def test_a_damaged_configuration_is_one_line(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("training", ["{epochs: 2.5}", "{precision: fp8}", "{learning_rate: '1'}"])
def test_a_value_of_the_wrong_type_is_damage_too(tmp_path, training):
    text = f"data: {{}}\nmodel: {{}}\nquantizer: {{}}\ntraining: {training}\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError):
        read_config(tmp_path)


SPLITS = {
    "train": {"images": 40, "fingerprint": "aa"},
    "test": {"images": 12, "fingerprint": "bb"},
}


def record(folder, **changes):
    content = {"format": 2, "precision": "bf16", "data": {"name": "smooth", **SPLITS}, **changes}
    (folder / "run.json").write_text(json.dumps(content))


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_the_same_data_is_accepted(tmp_path, precision):
    record(tmp_path)
    check_same_data(tmp_path, SPLITS, precision)


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_data_is_refused_by_name(tmp_path, split):
    record(tmp_path)
    other = {**SPLITS, split: {"images": 7, "fingerprint": "cc"}}
    with pytest.raises(UserError, match=rf"own {split} images, .* got 7 of cc") as error:
        check_same_data(tmp_path, other)
    one_line(error, about=f"{SPLITS[split]['images']} of {SPLITS[split]['fingerprint']}")


def test_another_precision_is_refused_by_name(tmp_path):
    record(tmp_path)
    with pytest.raises(UserError, match="own precision bf16; got fp32") as error:
        check_same_data(tmp_path, SPLITS, "fp32")
    one_line(error, about=tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"null", b'{"data": 3}', b'{"data": {}}', b"\xff\xff"]
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        check_same_data(tmp_path, SPLITS)
    assert "\n" not in str(error.value)


def test_a_new_number_of_epochs_is_saved(tmp_path, tiny):
    prepare(tmp_path, tiny())
    (tmp_path / "reconstructions").rmdir()
    prepare_resume(tmp_path, tiny(training={"epochs": 30}))
    assert read_config(tmp_path) == tiny(training={"epochs": 30})
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["config.yaml", "reconstructions"]


PLACES = ["", "reconstructions", "bad_steps", "figures", "codebooks"]


@pytest.mark.parametrize("place", PLACES)
def test_only_the_temporary_files_of_a_killed_process_are_removed(tmp_path, tiny, place):
    prepare(tmp_path, tiny())
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    others = [folder / ".download.part", folder / "rotvq-0.part", tmp_path / "mine"]
    for path in (*others, folder / ".rotvq-0123456789abcdef.part"):
        path.write_bytes(b"half")
    (folder / ".rotvq-link.part").symlink_to(tmp_path / "mine")
    prepare_resume(tmp_path, tiny())
    assert all(path.read_bytes() == b"half" for path in others)
    assert [path.name for path in folder.glob(".rotvq-*")] == [".rotvq-link.part"]


def test_a_file_that_another_process_is_writing_stays(tmp_path, tiny):
    """A report may be written into the folder while a run is taken up."""
    prepare(tmp_path, tiny())

    def write(target):
        target.write_text("whole")
        prepare_resume(tmp_path, tiny())

    write_atomically(tmp_path / "report.md", write)
    assert (tmp_path / "report.md").read_text() == "whole"


@pytest.mark.parametrize("name", [".rotvq-0123456789abcdef.part", ".rotvq-lock"])
def test_temporary_files_do_not_prevent_a_new_run(tmp_path, tiny, name):
    (tmp_path / name).write_text("half")
    prepare(tmp_path, tiny())
    assert read_config(tmp_path) == tiny()


LEFT = ".rotvq-0123456789abcdef.part"


@pytest.fixture
def link(tmp_path, tiny):
    """Replace a subfolder of a run by a link to a folder of two files; returns that folder."""
    prepare(tmp_path / "run", tiny())
    (tmp_path / "run" / run_folder.LOCK).touch()
    (tmp_path / "elsewhere").mkdir()
    for name in ("mine.png", LEFT):
        (tmp_path / "elsewhere" / name).write_text("mine")

    def make(place):
        (tmp_path / "run/reconstructions").rmdir()
        (tmp_path / "run" / place).symlink_to(tmp_path / "elsewhere")
        return tmp_path / "elsewhere"

    return make


@pytest.mark.parametrize("place", [*PLACES[1:], "tracking"])
def test_overwriting_replaces_a_linked_folder_and_not_what_it_leads_to(link, tmp_path, tiny, place):
    elsewhere = link(place)
    prepare(tmp_path / "run", tiny(), overwrite=True)
    assert not (tmp_path / "run" / place).is_symlink()
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == {
        "mine.png": "mine",
        LEFT: "mine",
    }


@pytest.mark.parametrize("place", [*PLACES[1:], "tracking"])
def test_a_run_with_a_linked_folder_is_not_resumed(link, tmp_path, tiny, place):
    elsewhere = link(place)
    with pytest.raises(UserError, match="expected a folder; it is a link to") as error:
        prepare_resume(tmp_path / "run", tiny(training={"epochs": 30}))
    one_line(error, about=tmp_path / "run" / place)
    assert sorted(path.name for path in elsewhere.iterdir()) == [LEFT, "mine.png"]
    assert read_config(tmp_path / "run") == tiny(), "nothing is written"


def test_configurations_differ_by_content_not_by_folder(tmp_path, tiny):
    a, b = tiny(), replace(tiny())
    prepare(tmp_path / "a", a)
    prepare(tmp_path / "b", b)
    assert read_config(tmp_path / "a") == read_config(tmp_path / "b")


def test_the_files_of_another_program_are_never_replaced(tmp_path):
    folder = tmp_path / "project"
    (folder / "figures").mkdir(parents=True)
    (folder / "config.yaml").write_text("lr: 1")
    (folder / "figures" / "paper.pdf").touch()
    with pytest.raises(UserError, match="holds other files"):
        prepare(folder, Config(), overwrite=True)
    assert (folder / "figures" / "paper.pdf").exists()
    assert (folder / "config.yaml").read_text() == "lr: 1"
