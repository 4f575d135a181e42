"""Images that do not fit in memory are stored on disk, and nothing else changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rotvq.data_processing import load, room
from rotvq.data_processing.splits import for_choosing
from rotvq.errors import UserError


@pytest.fixture
def no_memory(monkeypatch, tmp_path):
    """No memory is free."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    monkeypatch.setattr(room.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_an_array_that_fits_is_in_memory():
    assert not isinstance(room.room((3, 2)), np.memmap)


def test_an_array_that_does_not_fit_in_memory_is_on_disk(no_memory):
    images = room.room((5, 3, 8, 8))
    assert isinstance(images, np.memmap) and images.shape == (5, 3, 8, 8)
    images[:] = 7
    assert (images == 7).all()
    assert list(no_memory.iterdir()) == []


def test_images_on_disk_equal_those_in_memory(no_memory, monkeypatch):
    on_disk = for_choosing(load("photos", size=32), 10)
    monkeypatch.undo()
    in_memory = for_choosing(load("photos", size=32), 10)
    for split in ("train", "test", "validation"):
        a, b = getattr(on_disk, split), getattr(in_memory, split)
        assert a.fingerprint() == b.fingerprint()
        assert np.array_equal(a.labels, b.labels)
    assert isinstance(on_disk.train.images, np.memmap)


def test_a_full_disk_is_reported(no_memory, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(
        UserError,
        match=r"^images: expected 2\.0 GiB free .* set TMPDIR to a folder on a larger disk",
    ):
        room.room((2, 2**30))
