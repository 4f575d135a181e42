"""Tiny tokens of every kind of quantizer, and a tiny prior over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_tokens import CODECS, draw_indices

pytest.importorskip("transformers")

from rotvq.generation.config import PriorConfig, TokensConfig, TransformerConfig
from rotvq.generation.prior import Prior
from rotvq.generation.vocabulary import Vocabulary
from rotvq.model import VQVAE
from rotvq.quantization import ResidualQuantizer, VectorQuantizer
from rotvq.tokens.collection import Codec, Packer
from rotvq.tokens.file import save_tokens
from rotvq.tokens.model_codec import codec
from rotvq.training.config import OptimizationConfig

TINY = TransformerConfig(width=16, depth=2, heads=2)


@pytest.fixture(params=CODECS)
def any_codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


@pytest.fixture
def make_prior() -> Callable[..., Prior]:
    """A prior whose weights are so large that its predictions differ clearly."""

    def make(
        codec: Codec = CODECS["single"],
        grids: tuple[tuple[int, int], ...] = ((2, 3), (1, 2)),
        classes: tuple[str, ...] = ("cat", "dog", "ox"),
    ) -> Prior:
        torch.manual_seed(0)
        prior = Prior(Vocabulary(codec, grids, classes), TINY)
        with torch.no_grad():
            for p in prior.parameters():
                if p.ndim > 1:
                    p.mul_(20)
        return prior.eval()

    return make


@pytest.fixture
def tokenizer() -> VQVAE:
    torch.manual_seed(1)
    return VQVAE(
        width=8, dim=8, depth=1, stages=1, quantizer=VectorQuantizer(16, 8, channel_dim=1)
    ).eval()


@pytest.fixture
def residual_tokenizer() -> VQVAE:
    levels = [VectorQuantizer(16, 8, channel_dim=1) for _ in range(2)]
    return VQVAE(width=8, dim=8, depth=1, stages=1, quantizer=ResidualQuantizer(levels)).eval()


@pytest.fixture
def write_tokens(tmp_path: Path, tokenizer: VQVAE) -> Callable[..., Path]:
    """A token file of images whose tokens depend on their class."""

    def write(
        name: str = "train.npz",
        n: int = 40,
        *,
        model: VQVAE = tokenizer,
        grids: tuple[tuple[int, int], ...] = ((2, 3),),
        labels: bool = True,
        classes: int = 3,
        names: tuple[str, ...] = (),
        seed: int = 0,
    ) -> Path:
        kind, draw = codec(model), np.random.default_rng(seed)
        packer = Packer(kind, names)
        for number in range(n):
            grid = grids[number % len(grids)]
            label = int(draw.integers(classes)) if number >= classes else number
            indices = draw_indices(kind, 1, grid, seed * 1000 + number) // 4 + 4 * label
            size = grid[0] * kind.stride, grid[1] * kind.stride
            packer.add(indices, size, labels=[label if labels else None])
        save_tokens(packer.tokens(), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def tiny() -> Callable[..., PriorConfig]:
    """A tiny configuration with fields changed: tiny(training={"epochs": 1})."""
    base = PriorConfig(
        TokensConfig(),
        TINY,
        OptimizationConfig(
            epochs=2, batch_size=8, learning_rate=1e-2, optimizer="muon", schedule="cosine",
            ema_decay=0.5,
        ),
    )  # fmt: skip

    def make(**groups: dict[str, Any]) -> PriorConfig:
        changed = {name: replace(getattr(base, name), **new) for name, new in groups.items()}
        return replace(base, **changed)

    return make
