"""Weights of another shape, type or kind are refused in one line, whichever tensor it is."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import Restart, VectorQuantizer


@pytest.fixture(scope="module")
def state():
    return small().state_dict()


def small():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(20, 6, restart=Restart(0.1), channel_dim=1)
    return VQVAE(width=8, dim=6, depth=1, quantizer=quantizer)


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def others(t):
    """Tensors that do not fit in the place of one."""
    floats = t.is_floating_point()
    yield torch.zeros(t.numel() + 1, dtype=t.dtype)
    yield t[None]
    yield t.long() if floats else t.float()
    yield t.to(torch.complex64)
    if floats:
        for value in (float("nan"), float("inf"), float("-inf")):
            bad = t.clone()
            bad[(-1,) * t.dim()] = value
            yield bad


def test_tensors_of_another_shape_or_dtype_are_refused(folder, state):
    for name, t in state.items():
        for other in others(t):
            save_file({**state, name: other.contiguous()}, folder / "model.safetensors")
            with pytest.raises(UserError, match=rf"model.safetensors.* in {name}") as error:
                VQVAE.from_pretrained(folder)
            assert "\n" not in str(error.value)


def test_missing_and_extra_tensors_are_refused(folder, state):
    name = next(iter(state))
    for content in ({**state, "more": torch.zeros(2)}, {k: state[k] for k in state if k != name}):
        save_file(content, folder / "model.safetensors")
        with pytest.raises(UserError, match=r"size mismatch"):
            VQVAE.from_pretrained(folder)


def test_a_model_saved_in_half_precision_loads(folder, state):
    half = {k: t.half() if t.is_floating_point() else t for k, t in state.items()}
    save_file(half, folder / "model.safetensors")
    loaded = VQVAE.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], half[name].to(t.dtype)) for name, t in state.items())


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F4", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "E8M0", "shape": [16], "data_offsets": [0, 16]},
        {"dtype": "F4", "shape": [32], "data_offsets": [0, 16]},
        {"dtype": "F6_E2M3", "shape": [64], "data_offsets": [0, 48]},
        {"dtype": 3, "shape": "4", "data_offsets": None},
        "text",
    ],
)
def test_a_crafted_header_is_refused(folder, entry):
    header = json.dumps({"quantizer.codebook.embeddings": entry}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors") as error:
        VQVAE.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_only_regular_files_are_read(folder, name, kind):
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(kind)
    with pytest.raises(UserError, match=r"expected a regular file"):
        VQVAE.from_pretrained(folder)


@pytest.mark.skipif(os.name == "nt", reason="all paths of Windows are text")
def test_a_path_that_is_not_utf_8_is_read(folder, state):
    odd = folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    loaded = VQVAE.from_pretrained(odd).state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in state.items())
