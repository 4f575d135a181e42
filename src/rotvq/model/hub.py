"""Saved models on the Hugging Face Hub: download, upload and model card.

huggingface_hub is imported on first use, with its telemetry switched off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rotvq import bundled, telemetry
from rotvq.errors import UserError, first_line
from rotvq.model.levels import number_of_bits
from rotvq.paths import expanded
from rotvq.quantization import MultiScaleQuantizer, Quantizer

CONFIG, WEIGHTS = "config.json", "model.safetensors"

_NAME = r"[\w.-]+/[\w.-]+"


def local(name: str | Path, revision: str | None = None, **download: Any) -> Path:
    """A local folder with the files of a model, downloaded and cached if it is on the Hub.

    Args:
        name: a bundled model, a folder, or owner/name on the Hub; the first that exists. A `Path`
            is a folder.
        revision: branch, tag or commit on the Hub.
        download: more options of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: there is no such folder or model, or the Hub cannot be reached.
    """
    folder = bundled.find(name) or expanded(name)
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or not re.fullmatch(_NAME, name):
        raise UserError(
            f"{name}: expected the folder of a saved model, owner/name on the Hub, or a bundled "
            f"model ({bundled.listed()}); there is no such folder."
        )
    telemetry.switch_off()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS], **download)
        )
    # The hub's client and the libraries below it raise almost anything.
    except Exception as error:
        raise UserError(
            f"{name}: expected a folder or a Hub model; there is no such folder, and "
            f"{_reason(error)}."
        ) from None


def _reason(error: Exception) -> str:
    """Why a call of the Hub failed, without a period at the end."""
    kind = type(error.__cause__ or error).__name__
    if "Connect" in kind:  # of httpx, requests or Python
        return f"the Hub cannot be reached ({kind})"
    return f"the Hub reports: {first_line(error)}"


def upload(files: Mapping[str, bytes], name: str, private: bool) -> str:
    """Upload files as one commit to a model repository, created if needed; returns its address.

    Raises:
        UserError: the Hub refuses or cannot be reached.
    """
    telemetry.switch_off()
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.create_commit(name, operations, commit_message="Upload model")
    except Exception as error:
        raise UserError(
            f"{name}: expected the Hub to accept the model; {_reason(error)}. Log in with "
            "hf auth login, and upload to a repository of your own."
        ) from None
    return f"{api.endpoint}/{name}"


def card(quantizer: Quantizer, channels: int, stride: int, name: str = "owner/name") -> str:
    """A model card: Markdown that says what the model is and how to use it, with metadata.

    Args:
        quantizer: the model's quantizer.
        channels: image channels.
        stride: height and width in pixels that one token covers.
        name: name of the model on the Hub.
    """
    telemetry.switch_off()
    from huggingface_hub import ModelCard, ModelCardData

    metadata = ModelCardData(
        library_name="rotvq", tags=["vq-vae", "image-tokenizer", "vector-quantization"]
    )
    sizes = quantizer.codebook_sizes
    codes = f"{sizes[0]:,} codes"
    if len(sizes) > 1:
        codes = f"{len(sizes)} codebooks of {', '.join(f'{k:,}' for k in sizes)} codes"
    scales = quantizer.scales if isinstance(quantizer, MultiScaleQuantizer) else (1,)
    where = f" at the last of the scales {scales}" if len(scales) > 1 else ""
    bits = number_of_bits(quantizer, (scales[-1], scales[-1])) / (stride * scales[-1]) ** 2
    more = "".join(f", {n}" for n in quantizer.index_shape)
    return str(
        ModelCard(f"""---
{metadata.to_yaml()}
---

# An image tokenizer

A VQ-VAE trained with RotVQ: {codes} for vectors of length {quantizer.dim}, and one token for every
{stride}x{stride} pixels{where} ({bits:.3f} bits per pixel).

```python
import rotvq

model = rotvq.VQVAE.from_pretrained("{name}")  # or a folder
tokens = rotvq.encode_images(model, ["image.png"])
(image,) = rotvq.decode_images(model, tokens)

indices = model.encode(x)  # x: float (b, {channels}, h, w) in [-1, 1]
x = model.decode(indices)  # indices: int64 (b, h / {stride}, w / {stride}{more})
```
""")
    )
