"""Named configurations, from a smoke test to the paper's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rotvq.training.config import Config, DataConfig, ModelConfig, QuantizerConfig, TrainingConfig

_NO_COLLAPSE = QuantizerConfig(
    estimator="straight_through", decay=0.9, final_decay=0.99, init="data", restart=0.03
)
_MUON = TrainingConfig(
    batch_size=64, learning_rate=1.5e-3, schedule="cosine", gradient_clip=0.1, optimizer="muon"
)

# At 3e-3, the first block of the encoder of `best_gpu` died: no gradient reached it any more.
_WIDE = replace(_MUON, learning_rate=1e-3, epochs=100)

# Over so many epochs, a model memorizes images more than their mirror images.
_FLIPPED = DataConfig(source="cifar10", crops="random", random_flip=True)

# `best`, and after 200 steps of fine-tuning with weights 0.05, 0.2 and 0.5, on images held out: a
# Fréchet distance of 3.39, 0.87, 0.46 and 0.35, and an MSE of 10.0, 10.8, 11.8 and 13.1e-3.
_SHARP: dict[str, Any] = {"perceptual": "perceptual", "perceptual_weight": 0.2}

# Of 3e-4, 1e-3 and 3e-3, the rate of the lowest validation error (6.89, 6.87, 6.97e-3): `best` from
# CIFAR-10, two epochs of 1,536 patches of the embedded photographs.
FINETUNE = Config(
    data=DataConfig(crops="random"),
    training=replace(_MUON, epochs=10, learning_rate=1e-3),
)
"""The defaults of a run that starts from a trained model, which sets network and quantizer."""

PRESETS: dict[str, Config] = {
    # A few seconds: checks that everything runs.
    "smoke": Config(
        data=DataConfig(train_images=512, test_images=128),
        model=ModelConfig(width=16, dim=16, depth=1),
        quantizer=QuantizerConfig(codebook_size=64),
        training=TrainingConfig(epochs=2, batch_size=64),
    ),
    # About a minute on 2 CPU cores with the embedded photographs.
    "demo": Config(
        model=ModelConfig(width=32, dim=64),
        quantizer=QuantizerConfig(codebook_size=512),
        training=TrainingConfig(epochs=24, learning_rate=1e-3),
    ),
    # Half an hour on 2 CPU cores with bf16, on CIFAR-10.
    "cpu": Config(
        data=DataConfig(source="cifar10"),
        model=ModelConfig(width=64, dim=64),
        training=TrainingConfig(epochs=30),
    ),
    # 45 minutes on one CPU core, with every option that helps (see `rotvq ablate`).
    "best": Config(
        data=_FLIPPED,
        model=ModelConfig(width=96, dim=64, network="attention"),
        quantizer=_NO_COLLAPSE,
        training=replace(_MUON, epochs=24),
    ),
    # A larger model: an hour on 2 CPU cores.
    "best_long": Config(
        data=_FLIPPED,
        model=ModelConfig(width=128, dim=64, depth=3, network="attention"),
        quantizer=_NO_COLLAPSE,
        training=replace(_WIDE, epochs=40, test_every=4),
    ),
    # A larger model for a GPU.
    "best_gpu": Config(
        data=_FLIPPED,
        model=ModelConfig(width=256, dim=64, depth=4, network="attention"),
        quantizer=_NO_COLLAPSE,
        training=_WIDE,
    ),
    # Sharp pictures: `best` with a perceptual loss, in about the same time.
    "sharp": Config(
        data=_FLIPPED,
        model=ModelConfig(width=96, dim=64, network="attention"),
        quantizer=_NO_COLLAPSE,
        training=replace(_MUON, epochs=16, **_SHARP),
    ),
    # A larger model for a GPU.
    "sharp_gpu": Config(
        data=_FLIPPED,
        model=ModelConfig(width=256, dim=64, depth=4, network="attention"),
        quantizer=_NO_COLLAPSE,
        training=replace(_WIDE, **_SHARP),
    ),
    # The paper's settings (section 3.1.4; layer widths from its released code).
    "paper": Config(data=DataConfig(source="cifar10")),
}
