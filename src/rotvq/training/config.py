"""The configuration of a run. Free of torch, so that the command line starts quickly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

from rotvq.data_processing.resizing import parse_size
from rotvq.names import EFFORTS, CodesName, EstimatorName, MetricName, NetworkName, UpdateName
from rotvq.scales import are_multiples
from rotvq.training.checks import SHORT, check_fields, check_types, require
from rotvq.training.loss_config import LossConfig


@dataclass(frozen=True)
class DataConfig:
    """Images to train and test on.

    Args:
        source: a folder, shards, Parquet files or archive; hub:OWNER/NAME, cifar10 or
            embedded:photos. Existing paths come first.
        size: side in pixels, or HEIGHTxWIDTH, to resize and crop to; null keeps the original size.
        train_images: number of training images, spread evenly over the split; null for all.
        test_images: number of test images, spread evenly over the split; null for all.
        crops: "center" crops training images once; "random" crops them anew in every epoch.
        random_flip: flip each training image horizontally with probability 1/2, anew in every
            epoch.
        validation: number of training images to hold out and test on during training.
        bits: bit depth of grayscale images stored in 16 bits, such as 12; null for 16.
    """

    source: str = "embedded:photos"
    size: int | str | None = None
    train_images: int | None = None
    test_images: int | None = None
    crops: Literal["center", "random"] = "center"
    random_flip: bool = False
    validation: int = 0
    bits: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        parse_size(self.size)
        check = partial(check_fields, self, "data")
        check("a positive number", lambda n: n >= 1, "train_images", "test_images")
        check("0 or more", lambda n: n >= 0, "validation")
        check("1 to 16", lambda n: 1 <= n <= 16, "bits")


@dataclass(frozen=True)
class ModelConfig:
    """Encoder and decoder.

    Args:
        channels: image channels: 3 for RGB, 1 for grayscale.
        width: channels of the residual blocks.
        dim: embedding dimension D of the codes.
        depth: residual blocks in the encoder and in the decoder.
        stages: number of 2x downsamplings; 2 turns a 32x32 image into 8x8 tokens.
        network: "paper" is convolutional; "patches" embeds one patch per token; "attention" adds
            self-attention between patches.
        normalized_latents: scale each latent vector to length √D before quantization.
    """

    channels: Literal[1, 3] = 3
    width: int = 256
    dim: int = 256
    depth: int = 2
    stages: int = 2
    network: NetworkName = "paper"
    normalized_latents: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check = partial(check_fields, self, "model")
        check("a positive number", lambda n: n >= 1, "width", "dim")
        check("1 to 8", lambda n: 1 <= n <= 8, "stages")
        check("0 to 1000", lambda n: 0 <= n <= 1000, "depth")


@dataclass(frozen=True)
class QuantizerConfig:
    """Codebook and gradient estimator.

    Args:
        codebook_size: number of codes K.
        estimator: how gradients pass through the quantizer.
        update: codebook update: "ema" (moving averages), "gradient" (codebook loss) or "linear"
            (SimVQ).
        decay: decay γ of the EMA update, from 0 to below 1.
        final_decay: decay at the end of training, reached linearly; null keeps it constant.
        init: "uniform" in ±1/K, or "data" for k-means on the first batch.
        restart: restart codes used less than this share of the mean; 0 disables it, 0.03 is a good
            start.
        metric: "euclidean", or "cosine" for codes and vectors of unit length.
        codes: "learned"; or binary, one bit per channel: "lookup_free" codes of ±1 (LFQ) or
            "spherical" codes of unit length (BSQ).
        levels: levels of each channel of finite scalar quantization (FSQ), such as "8,5,5,5",
            instead of a learned codebook; codebook_size is their product, and model.dim their
            number, for each group.
        residual: number of levels of residual quantization; each level quantizes what the previous
            ones left over.
        scales: maps of increasing resolution, each of which quantizes the residual of those before
            (as in VAR), such as "1,2,4,8" for the 8x8 tokens of a 32x32 image; each number is a
            multiple of the one before. Images of other sizes have maps in the same proportions.
        dropout: with residual or scales, share of the training images that use a random number of
            levels (quantizer dropout), so that the first levels alone decode well; 0.5 is a good
            start.
        groups: number of channel groups, each with its own quantizer.
    """

    codebook_size: int = 1024
    estimator: EstimatorName = "rotation"
    update: UpdateName = "ema"
    decay: float = 0.99
    final_decay: float | None = None
    init: Literal["uniform", "data"] = "uniform"
    restart: float = 0.0
    metric: MetricName = "euclidean"
    codes: CodesName = "learned"
    levels: str | None = None
    residual: int = 1
    scales: str | None = None
    dropout: float = 0.0
    groups: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        name = "quantizer"
        check = partial(check_fields, self, name)
        check("1 to 2**24", lambda n: 1 <= n <= 2**24, "codebook_size")
        check("0 to below 1", lambda share: 0 <= share < 1, "decay", "final_decay")
        check("0 to below 1/3", lambda share: 0 <= share < 1 / 3, "restart")
        check("1 to 64", lambda n: 1 <= n <= 64, "residual", "groups")
        check("0 to 1", lambda share: 0 <= share <= 1, "dropout")
        fixed = self.levels is not None or self.codes != "learned"
        alone = self.residual == 1 or not (fixed or self.estimator == "reflection")
        wanted = "1 with levels, binary codes or the reflection"
        require(alone, f"{name}.residual", wanted, self.residual)
        fits = self.residual > 1 or self.scales is not None or not self.dropout
        require(fits, f"{name}.dropout", "0 without residual levels or scales", self.dropout)
        if self.scales is not None:
            self._check_scales(fixed)
        if self.codes != "learned":
            require(self.levels is None, f"{name}.levels", "null with binary codes", self.levels)
            power = self.codebook_size & (self.codebook_size - 1) == 0 and self.codebook_size > 1
            wanted = "2 to the power of the channels, with binary codes"
            require(power, f"{name}.codebook_size", wanted, self.codebook_size)
        if self.levels is not None:
            parts = self.levels.split(",")
            wanted = "integers of 2 or more, such as 8,5,5,5"
            digits = all(part.strip().isdecimal() and int(part) >= 2 for part in parts)
            require(digits, f"{name}.levels", wanted, SHORT.repr(self.levels))
            size = math.prod(map(int, parts))
            wanted = f"the product of the levels {self.levels}, {size}"
            require(self.codebook_size == size, f"{name}.codebook_size", wanted, self.codebook_size)

    def _check_scales(self, fixed: bool) -> None:
        parts = str(self.scales).split(",")
        digits = all(part.strip().isdecimal() and len(part) < 5 for part in parts)
        fits = digits and 1 < len(parts) <= 64 and are_multiples([*map(int, parts)])
        wanted = "2 to 64 increasing integers, each a multiple of the one before, such as 1,2,4,8"
        require(fits, "quantizer.scales", wanted, SHORT.repr(self.scales))
        for which in ("residual", "groups"):
            value = getattr(self, which)
            require(value == 1, f"quantizer.{which}", "1 with scales", value)
        learned = not fixed and self.metric == "euclidean" and self.estimator != "reflection"
        wanted = "null with levels, binary codes, the cosine metric or the reflection"
        require(learned, "quantizer.scales", wanted, self.scales)


@dataclass(frozen=True)
class OptimizationConfig:
    """Optimization.

    Args:
        epochs: passes over the training images.
        batch_size: images per optimizer step, over all processes.
        micro_batch_size: images per forward pass of a process (gradient accumulation); null for its
            share of the batch.
        optimizer: "adam"; or "muon", which orthogonalizes the updates of the network's matrices
            and decays their weights.
        learning_rate: learning rate of the optimizer; the peak if a schedule changes it.
        schedule: "constant", or "cosine" with linear warmup over the first 10 % of the steps.
        ema_decay: evaluate and save an exponential moving average of the model with this decay; 0
            disables it.
        gradient_clip: maximum gradient norm; 0 disables clipping.
        seed: random seed of weights, data order, crops, flips and restarts.
        precision: autocast precision; auto is bf16 if the hardware supports it, else fp32.
        device: auto uses a GPU if there is one.
        checkpoint_every: epochs between checkpoints.
        test_every: epochs between test passes; the last epoch is always tested.
    """

    epochs: int = 100
    batch_size: int = 128
    micro_batch_size: int | None = None
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: float = 2e-4
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: float = 0.0
    gradient_clip: float = 0.0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    checkpoint_every: int = 1
    test_every: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        check = partial(check_fields, self, "training")
        counts = ("epochs", "batch_size", "checkpoint_every", "test_every")
        check("a positive number", lambda n: n >= 1, *counts)
        check("a positive number", lambda rate: 0 < rate < math.inf, "learning_rate")
        check("0 or more", lambda norm: 0 <= norm < math.inf, "gradient_clip")
        check("0 to below 1", lambda decay: 0 <= decay < 1, "ema_decay")
        check("0 to 2147483647", lambda n: 0 <= n < 2**31, "seed")
        micro = self.micro_batch_size
        require(
            micro is None or (micro >= 1 and self.batch_size % micro == 0),
            "training.micro_batch_size",
            f"a divisor of the batch size {self.batch_size}",
            micro,
        )


@dataclass(frozen=True)
class TrainingConfig(LossConfig, OptimizationConfig):
    """Optimization.

    Args:
        effort: search for the training tokens with this effort, 0 to 9, to fine-tune a model for
            encoding with effort; 0 trains on the nearest codes. Refused with quantizer.update ema,
            unless the codes are fixed, and with quantizer.dropout.
        init_from: start from the weights of this run, saved or bundled model, or OWNER/NAME on the
            Hub; null for random weights.
    """

    effort: int = 0
    init_from: str | None = None

    def __post_init__(self) -> None:
        OptimizationConfig.__post_init__(self)
        LossConfig.__post_init__(self)
        check_fields(self, "training", "0 to 9", lambda n: 0 <= n < len(EFFORTS), "effort")


@dataclass(frozen=True)
class Config:
    """The configuration of a run; the defaults are the paper's."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Build a configuration from values by group, as `dataclasses.asdict` returns them.

        Raises:
            UserError: a value is not allowed.
            KeyError, TypeError: a group is missing, or an option is unknown.
        """
        return cls(**{group: kind(**values[group]) for group, kind in GROUPS.items()})

    def replace(self, **parts: Mapping[str, Any]) -> Config:
        """A copy with changed values: `replace(training={"seed": 1})`."""
        changed = {name: replace(getattr(self, name), **values) for name, values in parts.items()}
        return replace(self, **changed)


GROUPS: dict[str, Any] = {part.name: part.default_factory for part in fields(Config)}
"""The groups of a configuration by name."""


def differing(a: Any, b: Any) -> list[str]:
    """The options that differ between two configurations, as "training.epochs: 40 → 60"."""
    before, after = options_of(a), options_of(b)
    changed = (name for name in before if before[name] != after[name])
    return [f"{name}: {before[name]} → {after[name]}" for name in changed]


def options_of(config: Any) -> dict[str, Any]:
    """The options of a configuration by name, such as "training.epochs"."""
    return {f"{g}.{k}": v for g, part in vars(config).items() for k, v in vars(part).items()}
