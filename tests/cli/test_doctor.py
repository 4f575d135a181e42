"""rotvq doctor."""

from __future__ import annotations

import sys
import types

import pytest
import torch

import rotvq as package


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_a_complete_installation_exits_with_0(rotvq):
    answer = rotvq("doctor")
    assert (answer.status, answer.err) == (0, "")
    for word in ("torch", "cpu", "photos", package.__version__, "precision auto =", "CIFAR-10"):
        assert word in answer.out
    assert f"torch {torch.__version__.split('+')[0]}" in answer.out


def test_named_data_is_tried(rotvq, images):
    answer = rotvq("doctor", "--data", images)
    assert answer.status == 0
    assert f"{images}: smooth, 40 training and 12 test images, 3x16x16" in answer.out


def test_data_that_does_not_load_exits_with_1(rotvq, tmp_path):
    answer = rotvq("doctor", "--data", tmp_path / "nowhere")
    assert answer.status == 1
    assert f"{tmp_path / 'nowhere'}: not usable:" in answer.out
    assert "photos" in answer.out, "the rest is printed nevertheless"


def test_doctor_reports_a_damaged_archive_without_failing(rotvq, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"cut off")
    answer = rotvq("doctor")
    assert answer.status == 0
    assert "cifar-10-python.tar.gz: not usable:" in answer.out
    assert "CIFAR-10 not found" not in answer.out


def test_a_broken_torchvision_is_reported(rotvq, monkeypatch):
    class Broken(types.ModuleType):
        pass

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    answer = rotvq("doctor")
    assert answer.status == 0
    assert "torchvision is installed but broken" in answer.out
