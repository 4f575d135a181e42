"""Everything a run is made from, as data; free of torch, so that the command line is quick."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rotvq.data_processing.resizing import parse_size
from rotvq.errors import UserError

# Aliases of aliases in a few lines of YAML make a value that no memory holds as text.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 200


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Args:
        source: a path (a folder of images, shards or Parquet files, or an archive), hub:owner/name,
            cifar10 (of the hub) or embedded:photos; a path that exists goes before a name.
        size: side in pixels, or HEIGHTxWIDTH, to resize and crop to; null keeps the images' own.
        train_images: use so many training images, spread evenly; null uses all.
        test_images: use so many test images, spread evenly; null uses all.
        crops: of training pictures that are larger than size: the centre, always the same, or
            random parts at random scales, new ones each epoch.
        validation: hold out so many training images, to choose on: while training, tests are of
            them, and the test images are looked at once, at the end.
        bits: of grey images that are stored in 16 bits, such as 12; null takes all 16.
    """

    source: str = "embedded:photos"
    size: int | str | None = None
    train_images: int | None = None
    test_images: int | None = None
    crops: Literal["centre", "random"] = "centre"
    validation: int = 0
    bits: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        parse_size(self.size)
        for name in ("train_images", "test_images"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"data.{name}", "a positive number", value)
        _require(self.validation >= 0, "data.validation", "0 or more", self.validation)
        fits = self.bits is None or 1 <= self.bits <= 16
        _require(fits, "data.bits", "1 to 16", self.bits)


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Args:
        channels: of the images, 3 for RGB, 1 for grey.
        width: channels of the residual blocks.
        dim: length D of a code.
        depth: residual blocks on each side.
        stages: halvings of height and width; 2 makes 8x8 tokens of a 32x32 image.
        network: the paper's strided one, one that works on patches, a token each, or that with
            attention between them.
        normalized_latents: scale each latent vector to length √D, so that only its direction is
            quantized.
    """

    channels: Literal[1, 3] = 3
    width: int = 256
    dim: int = 256
    depth: int = 2
    stages: int = 2
    network: Literal["paper", "patches", "attention"] = "paper"
    normalized_latents: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("width", "dim"):
            value = getattr(self, name)
            _require(value >= 1, f"model.{name}", "a positive number", value)
        _require(1 <= self.stages <= 8, "model.stages", "1 to 8", self.stages)
        _require(0 <= self.depth <= 1000, "model.depth", "0 to 1000", self.depth)


@dataclass(frozen=True)
class QuantizerConfig:
    """The codebook and the gradient that crosses it.

    Args:
        codebook_size: number K of codes.
        estimator: how the gradient crosses.
        update: what moves the codes; linear learns one map of a frozen basis (SimVQ).
        decay: γ of the moving averages, 0 to below 1.
        final_decay: γ after the last step, reached in even steps; null keeps it as it is.
        init: uniform in ±1/K, or k-means over the first batch.
        restart: a code below this share of the mean count restarts; 0 is off, 0.03 a good start.
        levels: of finite scalar quantization, as "8,5,5,5": a fixed grid of codebook_size points in
            the place of a learned codebook, of which nothing above but its size counts.
    """

    codebook_size: int = 1024
    estimator: Literal[
        "rotation",
        "straight_through",
        "rotation_without_rescaling",
        "rescaling",
        "lifted_rotation",
        "reflection",
    ] = "rotation"
    update: Literal["ema", "gradient", "linear"] = "ema"
    decay: float = 0.99
    final_decay: float | None = None
    init: Literal["uniform", "data"] = "uniform"
    restart: float = 0.0
    levels: str | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        name = "quantizer"
        fits = 1 <= self.codebook_size <= 2**24
        _require(fits, f"{name}.codebook_size", "1 to 2**24", self.codebook_size)
        for which in ("decay", "final_decay"):
            value = getattr(self, which)
            _require(value is None or 0 <= value < 1, f"{name}.{which}", "0 to below 1", value)
        _require(0 <= self.restart < 1 / 3, f"{name}.restart", "0 to below 1/3", self.restart)
        if self.levels is not None:
            parts = self.levels.split(",")
            wanted = "whole numbers, 2 or more, as 8,5,5,5"
            digits = all(part.strip().isdecimal() and int(part) >= 2 for part in parts)
            _require(digits, f"{name}.levels", wanted, _SHORT.repr(self.levels))
            size = math.prod(map(int, parts))
            wanted = f"the product of the levels {self.levels}, {size}"
            _require(
                self.codebook_size == size, f"{name}.codebook_size", wanted, self.codebook_size
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The optimization.

    Args:
        epochs: passes over the training images.
        batch_size: images an optimizer step, over all processes.
        micro_batch_size: images a process takes at once; null takes its share of a batch whole.
        learning_rate: of Adam; its peak, where the schedule moves it.
        schedule: constant, or up over the first tenth of the steps and down to 0 as a cosine.
        beta: β, the weight of the commitment loss.
        final_beta: β after the last step, reached in even steps; null keeps it as it is.
        entropy_weight: weight of the entropy loss, which favours even use of the codes; 0 disables
            it.
        ema_decay: decay of a moving average of the weights, which is what is tested and saved; 0 is
            off.
        gradient_clip: largest norm of all gradients together; 0 is off.
        flip: mirror every other training image, at random.
        seed: of weights, order of images and restarts.
        precision: of the network; auto is bf16 where the processor has it. Search is always fp32.
        device: auto is a GPU if there is one.
        checkpoint_every: epochs between checkpoints.
        test_every: epochs between test passes; the last epoch always has one.
        init_from: begin from the weights of this model, the folder of a run or of a saved model or
            owner/name on the hub; null draws new ones.
    """

    epochs: int = 100
    batch_size: int = 128
    micro_batch_size: int | None = None
    learning_rate: float = 2e-4
    schedule: Literal["constant", "cosine"] = "constant"
    beta: float = 0.25
    final_beta: float | None = None
    entropy_weight: float = 0.0
    ema_decay: float = 0.0
    gradient_clip: float = 0.0
    flip: bool = False
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    checkpoint_every: int = 1
    test_every: int = 1
    init_from: str | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("epochs", "batch_size", "checkpoint_every", "test_every"):
            value = getattr(self, name)
            _require(value >= 1, f"training.{name}", "a positive number", value)
        micro = self.micro_batch_size
        _require(
            micro is None or (micro >= 1 and self.batch_size % micro == 0),
            "training.micro_batch_size",
            f"a divisor of the batch size {self.batch_size}",
            micro,
        )
        rate = self.learning_rate
        _require(0 < rate < float("inf"), "training.learning_rate", "a positive number", rate)
        for name in ("beta", "final_beta"):
            value = getattr(self, name)
            fits = value is None or 0 <= value < float("inf")
            _require(fits, f"training.{name}", "0 or more", value)
        for name in ("entropy_weight", "gradient_clip"):
            value = getattr(self, name)
            _require(0 <= value < float("inf"), f"training.{name}", "0 or more", value)
        _require(0 <= self.ema_decay < 1, "training.ema_decay", "0 to below 1", self.ema_decay)
        _require(0 <= self.seed < 2**31, "training.seed", "0 to 2147483647", self.seed)


@dataclass(frozen=True)
class Config:
    """A run: the paper's settings are the defaults."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def replace(self, **parts: Mapping[str, Any]) -> Config:
        """The same configuration with other values, as `replace(training={"seed": 1})`."""
        changed = {name: replace(getattr(self, name), **values) for name, values in parts.items()}
        return replace(self, **changed)


GROUPS: dict[str, Any] = {part.name: part.default_factory for part in fields(Config)}
"""The parts of a configuration by name."""


def differing(a: Config, b: Config) -> list[str]:
    """The fields in which two configurations differ, as "training.epochs: 40 → 60"."""
    before, after = dict(_leaves(a)), dict(_leaves(b))
    changed = (name for name in before if before[name] != after[name])
    return [f"{name}: {before[name]} → {after[name]}" for name in changed]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in fields(node):
        value = getattr(node, entry.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", value


def _check_types(part: Any) -> None:
    """See that every field is of its type; a file edited by hand passes no parser."""
    for name, hint in get_type_hints(type(part)).items():
        value = getattr(part, name)
        kinds = get_args(hint) or (hint,)
        if get_origin(hint) is Literal:
            _require(value in kinds, name, " or ".join(map(str, kinds)), _SHORT.repr(value))
        else:
            widened = (*kinds, int) if float in kinds else kinds
            names = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            fits = isinstance(value, widened) and isinstance(value, bool) == (bool in kinds)
            _require(fits, name, names, _SHORT.repr(value))


def _require(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise UserError(f"{name}: expected {expected}; got {received}.")
