"""rotvq completion: the scripts complete, in real shells."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import redirect_stdout
from functools import cache
from io import StringIO

import pytest

from rotvq.cli.main import COMMANDS, main
from rotvq.training.config import GROUPS
from rotvq.training.presets import PRESETS

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The completion script of a shell, in a file."""

    @cache
    def written(shell):
        said = StringIO()
        with redirect_stdout(said):
            assert main(["completion", shell]) == 0
        path = tmp_path_factory.mktemp("completion") / shell
        path.write_text(said.getvalue())
        return path

    return written


def in_bash(script, folder, *words):
    """What bash offers for these words, the last of which is being typed."""
    line = " ".join(f'"{word}"' for word in ("rotvq", *words))
    asking = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_rotvq; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asking], capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    return set(done.stdout.split())


@bash
def test_bash_completes_commands(script, tmp_path):
    assert in_bash(script("bash"), tmp_path, "") == set(COMMANDS)
    assert in_bash(script("bash"), tmp_path, "re") == {"report", "reproduce", "reconstruct"}


@bash
@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_exactly_the_options_of_every_command(rotvq, script, tmp_path, command):
    listed = r"^ +(?:-\w(?: [A-Z]+)?, )?(--[a-z][\w.-]*)"
    wanted = set(re.findall(listed, rotvq(command, "--help").out, re.MULTILINE))
    if command == "train":  # --training alone is jsonargparse's, and refused
        wanted = wanted - {f"--{group}" for group in GROUPS} | {"--data", "--from"}
    assert len(wanted) > 1 or command == "completion"
    assert in_bash(script("bash"), tmp_path, command, "--") == wanted


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["train", "--quantizer.estimator", "rotation_"], {"rotation_without_rescaling"}),
        (["train", "--preset", ""], {*PRESETS}),
        (["train", "--training.precision", ""], {"auto", "fp32", "bf16", "fp16"}),
        (["encode", "photos/", "--split", "t"], {"train", "test"}),
        (["export", "m", "--to", ""], {"onnx", "torch", "model"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["train", "--training.epochs", ""], set()),
    ],
)
def test_bash_completes_values(script, tmp_path, words, offered):
    assert in_bash(script("bash"), tmp_path, *words) == offered


@bash
@pytest.mark.parametrize(
    "words",
    [
        ["encode"],
        ["encode", "photos", "--model"],
        ["evaluate"],
        ["train", "--out"],
        ["train", "--config"],
        ["train", "--data.source"],
        ["report", "one"],
    ],
)
def test_bash_completes_file_names(script, tmp_path, words):
    (tmp_path / "mine.yaml").touch()
    assert in_bash(script("bash"), tmp_path, *words, "mi") == {"mine.yaml"}


@zsh
def test_zsh(script, tmp_path):
    """An interactive zsh turns "rotvq rec", a tab, "--ov" and a tab into whole words."""
    (tmp_path / "typed").write_text(
        f"""
        zmodload zsh/zpty
        zpty z TERM=dumb zsh -f -i
        zpty -w z 'PS1=; autoload -U compinit && compinit -u -D; eval "$(cat {script("zsh")})"'
        zpty -w z 'echo rea""dy'
        zpty -r -m z REPLY '*ready*'
        zpty -w -n z $'rotvq rec\\t'; sleep 2
        zpty -w -n z $'--ov\\t'; sleep 2
        zpty -w -n z $'\\C-u'; zpty -w z 'echo do""ne'
        zpty -r -m z REPLY '*done*'
        print -r -- $REPLY
        """
    )
    asking = ["zsh", "-f", tmp_path / "typed"]
    done = subprocess.run(asking, capture_output=True, text=True, timeout=60)
    assert "reconstruct" in done.stdout and "--overwrite" in done.stdout, done


@fish
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rotvq re", {"report", "reproduce", "reconstruct"}),
        ("rotvq train --quantizer.init ", {"data", "uniform"}),
        ("rotvq encode --o", {"--out", "--overwrite"}),
    ],
)
def test_fish(script, typed, offered):
    asking = f"source {script('fish')}; complete -C '{typed}'"
    done = subprocess.run(["fish", "--no-config", "-c", asking], capture_output=True, text=True)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_name_commands_and_options(rotvq, shell):
    answer = rotvq("completion", shell)
    assert (answer.status, answer.err) == (0, "")
    assert all(command in answer.out for command in COMMANDS)
    assert "training.epochs" in answer.out


def test_an_unknown_shell(rotvq):
    assert "invalid choice: 'csh'" in rotvq("completion", "csh").error
