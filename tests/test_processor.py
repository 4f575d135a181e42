"""Whether the processor multiplies in bfloat16."""

import pytest
import torch

from rotvq import processor

CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")


@pytest.mark.parametrize("reported", [None, *CHECKS])
@pytest.mark.parametrize("value", [False, True])
def test_bf16_needs_one_check_of_torch_that_exists_and_is_true(monkeypatch, reported, value):
    for name in CHECKS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    if reported is not None:
        monkeypatch.setattr(torch.cpu, reported, lambda: value, raising=False)
    assert processor.has_bf16.__wrapped__() is (reported is not None and value)
