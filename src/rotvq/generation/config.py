"""The configuration of a prior, and of sampling from it; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rotvq.training.checks import check_fields, check_types, require
from rotvq.training.config import OptimizationConfig


@dataclass(frozen=True)
class TokensConfig:
    """Tokens to train and test on.

    Args:
        train: a token file of the training images, or a folder of shards.
        test: the same of the test images; null holds out a random tenth of `train`.
        train_images: number of training images, chosen at random; null for all.
        test_images: number of test images, chosen at random; null for all.
        classes: names of the classes, separated by commas, in the order of their numbers; null for
            the names in `train`, or for numbers if it has none.
    """

    train: str = ""
    test: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    classes: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        limits = ("train_images", "test_images")
        check_fields(self, "tokens", "a positive number", lambda n: n >= 1, *limits)


@dataclass(frozen=True)
class TransformerConfig:
    """Transformer.

    Args:
        width: channels of the hidden states.
        depth: layers.
        heads: attention heads.
        drop_labels: share of the labels dropped in training, so that the prior also learns to
            model images without a class, which classifier-free guidance needs.
    """

    width: int = 192
    depth: int = 5
    heads: int = 6
    drop_labels: float = 0.1

    def __post_init__(self) -> None:
        check_types(self)
        for name, most in (("width", 2**14), ("depth", 1000), ("heads", 2**10)):
            value = getattr(self, name)
            require(1 <= value <= most, f"prior.{name}", f"1 to {most:,}", value)
        # Rotary position embeddings turn pairs of channels.
        even = self.width % (2 * self.heads) == 0
        require(even, "prior.width", f"a multiple of 2 x {self.heads} heads", self.width)
        share = self.drop_labels
        require(0 <= share <= 1, "prior.drop_labels", "0 to 1", share)


@dataclass(frozen=True)
class Sampling:
    """How indices are drawn.

    Args:
        guidance: scale of classifier-free guidance (Ho & Salimans 2022); 1 draws from the
            class-conditional prior, more moves away from the unconditional one.
        temperature: divides the logits; below 1 prefers likely codes.
        top_k: draw from the most likely codes only; 0 for all.
        top_p: draw from the smallest set of codes with this probability.
        seed: random seed; the same seed and batch size give the same images on one machine.

    Raises:
        UserError: a value is not allowed.
    """

    guidance: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("guidance", 0 <= self.guidance <= 100, "0 to 100"),
            ("temperature", 0 < self.temperature <= 100, "above 0, to 100"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, to 1"),
            ("seed", 0 <= self.seed < 2**31, "0 to 2147483647"),
        ):
            require(holds, name, expected, getattr(self, name))


_CPU = OptimizationConfig(
    epochs=3,
    batch_size=64,
    optimizer="muon",
    learning_rate=3e-3,
    schedule="cosine",
    gradient_clip=1.0,
)


@dataclass(frozen=True)
class PriorConfig:
    """The configuration of a prior; the defaults are the preset `cpu`."""

    tokens: TokensConfig = field(default_factory=TokensConfig)
    prior: TransformerConfig = field(default_factory=TransformerConfig)
    training: OptimizationConfig = _CPU

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriorConfig:
        """The configuration of values by group, as `dataclasses.asdict` returns them.

        Raises:
            UserError: a value is not allowed.
            KeyError, TypeError: a group is missing, or an option is unknown.
        """
        return cls(**{group: kind(**values[group]) for group, kind in GROUPS.items()})


GROUPS: dict[str, Any] = {
    "tokens": TokensConfig,
    "prior": TransformerConfig,
    "training": OptimizationConfig,
}
"""The groups of a configuration by name."""
assert [*GROUPS] == [entry.name for entry in fields(PriorConfig)]

PRESETS: dict[str, PriorConfig] = {
    # A few seconds: checks that everything runs.
    "smoke": PriorConfig(
        tokens=TokensConfig(train_images=512, test_images=128),
        prior=TransformerConfig(width=32, depth=2, heads=2),
        training=OptimizationConfig(epochs=2, batch_size=32, learning_rate=3e-3),
    ),
    # About 40 minutes on a CPU core, for 50,000 images of 8x8 tokens.
    "cpu": PriorConfig(),
    # For a GPU.
    "gpu": PriorConfig(
        prior=TransformerConfig(width=512, depth=12, heads=8),
        training=OptimizationConfig(
            epochs=30,
            batch_size=256,
            optimizer="muon",
            learning_rate=2e-3,
            schedule="cosine",
            gradient_clip=1.0,
            ema_decay=0.999,
        ),
    ),
}
