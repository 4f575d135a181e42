"""Saved models on the Hugging Face hub."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rotvq import telemetry
from rotvq.errors import UserError, first_line
from rotvq.model.pretrained import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from rotvq.model.vqvae import VQVAE

NAME = r"[\w.-]+/[\w.-]+"


def local(name: str | Path, revision: str | None = None) -> Path:
    """The folder of that name, or that of a hub model, fetched and cached.

    Raises:
        UserError: there is neither, or the hub cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(NAME, str(name)):
        raise UserError(f"{name}: expected the folder of a saved model, or owner/name on the hub.")
    telemetry.switch_off()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG, WEIGHTS])
        )
    # The hub's client, and what it stands on, raise almost anything.
    except Exception as error:
        raise UserError(
            f"{name}: expected a folder or a model on the hub; there is no such folder, and the "
            f"hub answers: {first_line(error)}."
        ) from None


def upload(folder: Path, name: str, private: bool) -> str:
    """Upload a folder as the model of that name; returns the address.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    telemetry.switch_off()
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload model")
    except Exception as error:
        raise UserError(
            f"{name}: expected the hub to take the model; it answers: {first_line(error)}. Log in "
            "with hf auth login, and upload to a name of your own."
        ) from None
    return f"{api.endpoint}/{name}"


def card(model: VQVAE, name: str = "owner/name") -> str:
    """What a model is and how to use it, in Markdown with the hub's metadata.

    Args:
        model: any.
        name: on the hub.
    """
    k, d = len(model.quantizer.codebook), model.quantizer.dim
    return f"""---
library_name: rotvq
tags: [vq-vae, image-tokenizer, vector-quantization]
---

# An image tokenizer

A VQ-VAE of RotVQ: {k:,} codes of length {d}, a token for every
{model.stride}x{model.stride} pixels ({math.log2(k) / model.stride**2:.3f} bits a pixel).

```python
from rotvq import VQVAE

model = VQVAE.from_pretrained("{name}")  # or a folder
indices = model.encode(images)  # float (b, {model.channels}, h, w) in [-1, 1]
images = model.decode(indices)  # int64 (b, h / {model.stride}, w / {model.stride})
```
"""
