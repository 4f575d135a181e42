"""What the processor can do."""

from __future__ import annotations

from functools import cache

import torch


@cache
def has_bf16() -> bool:
    """Whether it multiplies in bf16 (AVX512-BF16, AMX or Arm's); torch has no public name yet."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
