"""What the tokens of a model mean, and whether given tokens are its own."""

from __future__ import annotations

import hashlib
from typing import cast

import torch

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.model.levels import sizes_of_token
from rotvq.model.quantizers import leaves
from rotvq.quantization import MultiScaleQuantizer, VectorQuantizer
from rotvq.quantization.grid import Grid
from rotvq.tokens.collection import Codec


def fingerprint(model: VQVAE) -> str:
    """16 hex digits of the SHA-256 of everything that gives tokens their meaning.

    This includes encoder, decoder and codes, but not the statistics that only training needs.
    """
    parts = {
        **{f"encoder.{name}": t for name, t in model.encoder.state_dict().items()},
        **{f"decoder.{name}": t for name, t in model.decoder.state_dict().items()},
    }
    if isinstance(model.quantizer, MultiScaleQuantizer):
        parts["scales"] = torch.tensor(model.quantizer.scales)
    found = leaves(model.quantizer)
    for number, quantizer in enumerate(found):
        name = f"codebook.{number}" if len(found) > 1 else "codebook"
        if isinstance(quantizer, VectorQuantizer):
            parts[name] = quantizer.codebook.embeddings
        else:
            grid = cast(Grid, quantizer.codebook)
            parts[name] = torch.tensor(grid.levels)
            if grid.symmetric or grid.scale != 1:
                parts[f"{name}.places"] = torch.tensor([grid.symmetric, grid.scale])
    digest = hashlib.sha256()
    for name in sorted(parts):
        content = parts[name].detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)} ".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def codec(model: VQVAE, levels: int | None = None) -> Codec:
    """The codec of a model's tokens, with the first levels of a residual quantizer or all."""
    quantizer, shape = model.quantizer, model.quantizer.index_shape
    return Codec(
        fingerprint(model),
        sizes_of_token(quantizer, levels),
        model.stride,
        model.channels,
        shape if levels is None or quantizer.residual_levels == 1 else (*shape[:-1], levels),
        quantizer.scales if isinstance(quantizer, MultiScaleQuantizer) else (),
    )


def is_of(model: VQVAE, tokens: Codec) -> bool:
    """Whether tokens come from a model, with all levels of its quantizer or the first ones."""
    most, shape = model.quantizer.residual_levels, tokens.index_shape
    return tokens == codec(model, min(shape[-1], most) if shape and most > 1 else None)


def check_model(model: VQVAE, tokens: Codec, name: str = "model") -> None:
    """Check that tokens come from a model.

    Args:
        model: the model.
        tokens: what the tokens mean.
        name: what the error calls the model.

    Raises:
        UserError: they come from another one.
    """
    if not is_of(model, tokens):
        raise UserError(
            f"{name}: expected the model of these tokens ({tokens.model}); got model "
            f"{fingerprint(model)}. Pass the model that encoded them, or encode the images again."
        )
