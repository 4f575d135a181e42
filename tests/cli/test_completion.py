"""rotvq completion: the script completes, in a real bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rotvq.cli.main import VERBS


def completed(script, *words):
    """What bash offers for these words, of which the last is being written."""
    line = " ".join(f'"{word}"' for word in ("rotvq", *words))
    asking = (
        f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _rotvq; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{asking}"], capture_output=True, text=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash(rotvq):
    script = rotvq("completion", "bash").out
    assert completed(script, "") == set(VERBS)
    assert completed(script, "re") == {"report", "reproduce", "reconstruct"}
    assert completed(script, "encode", "--o") == {"--out", "--overwrite"}
    assert completed(script, "train", "--quantizer.re") == {"--quantizer.restart"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(rotvq, shell):
    answer = rotvq("completion", shell)
    assert (answer.status, answer.err) == (0, "")
    assert all(verb in answer.out for verb in VERBS)
    assert "training.epochs" in answer.out


def test_an_unknown_shell(rotvq):
    assert "invalid choice: 'csh'" in rotvq("completion", "csh").error
