"""Device, precision, versions, code state."""

from __future__ import annotations

import json
import os
import platform
import subprocess

import pytest
import torch

from rotvq import processor
from rotvq.errors import UserError
from rotvq.training import environment

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.mark.parametrize("has", [False, True])
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, has):
    monkeypatch.setattr(processor, "has_bf16", lambda: has)
    assert environment.resolve_precision("auto", CPU) == ("bf16" if has else "fp32")


@pytest.mark.parametrize("has", [False, True])
def test_auto_on_a_gpu_is_bf16_only_without_emulation(monkeypatch, has):
    def supported(including_emulation=True):
        return including_emulation or has

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert environment.resolve_precision("auto", CUDA) == ("bf16" if has else "fp32")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_explicit_precisions_are_kept(name):
    assert environment.resolve_precision(name, CPU) == name


def test_fp16_is_for_gpus():
    assert environment.resolve_precision("fp16", CUDA) == "fp16"
    with pytest.raises(UserError, match="got fp16"):
        environment.resolve_precision("fp16", CPU)


def test_versions_and_hardware_are_records():
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert torch.__version__.startswith(found["torch"].split("+")[0])
    assert {"numpy", "accelerate", "torchmetrics"} <= set(found)
    hardware = environment.hardware(CPU)
    assert hardware["device"] == "cpu"
    assert hardware["name"]
    assert hardware["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps([found, hardware])) == [found, hardware]


def test_a_missing_package_is_recorded_as_absent(monkeypatch):
    def version(name):
        raise environment.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", version)
    assert environment.versions()["torch"] == "absent"


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_follows_the_checkout(monkeypatch, tmp_path):
    source = tmp_path / "environment.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(environment, "__file__", str(source))
    assert environment.git_state() is None, "no checkout"
    git(tmp_path, "init", "-q")
    assert environment.git_state() is None, "a checkout that does not hold this file"
    git(tmp_path, "add", "environment.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment.git_state() == {"commit": commit, "dirty": False}
    (tmp_path / "untracked").write_text("")
    assert environment.git_state() == {"commit": commit, "dirty": False}
    source.write_text("a = 2\n")
    assert environment.git_state() == {"commit": commit, "dirty": True}


def test_a_machine_without_git_has_no_state(monkeypatch):
    def run(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(environment.subprocess, "run", run)
    assert environment.git_state() is None


@pytest.mark.parametrize("tracked", [False, True])
def test_the_programs_of_a_surrounding_project_are_not_run(monkeypatch, tmp_path, tracked):
    """An installed copy of this package may lie in any project's checkout."""
    source, trace = tmp_path / "environment.py", tmp_path / "trace"
    source.write_text("a = 1\n")
    monkeypatch.setattr(environment, "__file__", str(source))
    git(tmp_path, "init", "-q")
    if tracked:
        git(tmp_path, "add", "environment.py")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    program = tmp_path / ".git/hooks/program"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    for hook in ("post-index-change", "fsmonitor-watchman", "query-watchman"):
        (tmp_path / f".git/hooks/{hook}").symlink_to(program)
    git(tmp_path, "config", "core.fsmonitor", str(program))
    os.utime(source, (1, 1))  # the index has to be refreshed
    assert (environment.git_state() is None) is not tracked
    assert not trace.exists()
    os.utime(source, (2, 2))
    git(tmp_path, "status")
    assert trace.exists(), "the programs must work, or this test shows nothing"


def test_a_hook_that_starts_a_run_does_not_name_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environment.py").touch()
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "environment.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "init", "-q", "--bare", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    found = environment.git_state()
    assert found == {"commit": commit, "dirty": False}
