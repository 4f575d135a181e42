"""What the processor can do."""

import pytest
import torch

from rotvq import processor

CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")


@pytest.mark.parametrize("has", [False, True])
def test_an_unknown_processor_is_taken_to_have_no_bf16(monkeypatch, has):
    for name in CHECKS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    if has:
        monkeypatch.setattr(torch.cpu, CHECKS[0], lambda: True, raising=False)
    assert processor.has_bf16.__wrapped__() is has
