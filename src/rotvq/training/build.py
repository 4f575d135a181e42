"""From a configuration to a model."""

from __future__ import annotations

from rotvq.model import VQVAE
from rotvq.quantization import EMA, GradientLearned, Restart, VectorQuantizer
from rotvq.quantization.codebook import Rule
from rotvq.training.config import Config


def build_model(config: Config) -> VQVAE:
    """The model of a configuration, its weights drawn from torch's global generator.

    The codebook waits for `update_codebook()`: one step of it for one of the optimizer's.
    """
    model, quantizer = config.model, config.quantizer
    decay = quantizer.decay
    rule: Rule = EMA(decay) if quantizer.rule == "ema" else GradientLearned(decay)
    return VQVAE(
        channels=model.channels,
        width=model.width,
        dim=model.dim,
        depth=model.depth,
        stages=model.stages,
        quantizer=VectorQuantizer(
            quantizer.codebook_size,
            model.dim,
            estimator=quantizer.estimator,
            rule=rule,
            init=quantizer.init,
            restart=Restart(quantizer.restart) if quantizer.restart else None,
            channel_dim=1,
            defer_update=True,
        ),
    )
