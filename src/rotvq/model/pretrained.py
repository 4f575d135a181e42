"""Saved models: a folder with config.json and model.safetensors, or a repository on the Hub.

config.json holds the name and version of the format and the arguments that the model is built
from; the weights are tensors only, never code.

`huggingface_hub.PyTorchModelHubMixin` would offer the same methods, but without our guards: it
reads config.json whole, of any size and from any kind of file, before a subclass can intervene;
allocates the model before it looks at the weights; falls back to pickle; and saves before it knows
that it can. As a base class, it would also have to switch off telemetry, a setting of the whole
process, when rotvq is imported rather than when the Hub is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from rotvq.errors import UserError
from rotvq.files import to_json, write_bytes
from rotvq.guarded import read_json, shown
from rotvq.model import hub, quantizers
from rotvq.model.hub import CONFIG, WEIGHTS
from rotvq.model.weights import encode_weights, load_weights, one_line
from rotvq.paths import expanded
from rotvq.quantization import Quantizer

__all__ = ["CONFIG", "WEIGHTS", "PretrainedModel", "describe", "load_weights"]

FORMAT, VERSION = "rotvq model", 2

_LARGEST = {"depth": 1000}
"""Limits of the arguments that decide how many layers are made."""


class PretrainedModel(nn.Module):
    """A model that can be saved to a folder or the Hub, and loaded from there.

    Attributes:
        arguments: arguments of the constructor, as plain data, without the quantizer.
        quantizer: a quantizer of any kind in `rotvq.quantization`.
        channels: image channels.
        stride: height and width in pixels that one token covers.
    """

    arguments: dict[str, Any]
    quantizer: Quantizer
    channels: int
    stride: int

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`, which `from_pretrained` loads.

        Args:
            folder: created if it does not exist. Each file is replaced atomically.
            dtype: dtype of the floating-point weights in the file, such as `torch.float16`;
                None keeps theirs. They are loaded as float32. Rounded weights are another model,
                with a fingerprint of its own.

        Settings of training (`search`, `init` and `defer_update` of a quantizer) are not saved.

        Raises:
            UserError: the estimator is a function of your own, several quantizers share one
                codebook, or weights are not finite in that dtype.
        """
        folder = expanded(folder)
        files = _files(self, dtype)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_bytes(folder / name, content)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, **download: Any
    ) -> Self:
        """Load a saved model, on the CPU and in evaluation mode.

        Args:
            name: a bundled model such as "rotvq-f4", a folder written by `save_pretrained` or
                `rotvq train`, or owner/name on the Hub. Bundled names come first; write
                "./rotvq-f4" for a folder of that name.
            revision: branch, tag or commit on the Hub.
            download: more options of `huggingface_hub.snapshot_download`, such as `token`,
                `cache_dir` or `local_files_only`.

        Raises:
            UserError: there is no such model, the Hub cannot be reached, or the files are damaged
                or of another format.
        """
        folder = hub.local(name, revision, **download)
        description = _read_config(folder / CONFIG)
        try:
            _check_sizes(description, folder / CONFIG)
            return load_weights(
                lambda: cls(
                    **description["model"], quantizer=quantizers.build(description["quantizer"])
                ),
                folder / WEIGHTS,
            )
        except UserError:
            raise
        # A crafted file can make the constructors raise anything.
        except Exception as error:
            raise UserError(
                f"{folder / CONFIG}: expected the arguments of a model; {one_line(error)} Use the "
                "file that was saved with the weights."
            ) from None

    def push_to_hub(self, name: str, private: bool = False, card: str | None = None) -> str:
        """Upload what `save_pretrained` writes, with a model card.

        Args:
            name: owner/name on the Hub.
            private: make a new repository private.
            card: Markdown; None for `hub.card`.

        Returns:
            The address of the model.

        Raises:
            UserError: as in `save_pretrained`; or the Hub refuses or cannot be reached.
        """
        files = _files(self)
        text = hub.card(self.quantizer, self.channels, self.stride, name) if card is None else card
        return hub.upload(files | {"README.md": text.encode()}, name, private)


def describe(model: PretrainedModel) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        UserError: the estimator is a function of your own.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model.arguments,
        "quantizer": quantizers.describe(model.quantizer),
    }


def _files(model: PretrainedModel, dtype: torch.dtype | None = None) -> dict[str, bytes]:
    config = to_json(describe(model), indent=1) + "\n"
    return {WEIGHTS: encode_weights(model, dtype), CONFIG: config.encode()}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        description = read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected the configuration of a saved model; there is no such file."
        ) from None
    content = description if isinstance(description, dict) else {}
    if content.get("format") != FORMAT:
        raise UserError(
            f'{path}: expected "format": "{FORMAT}"; got {shown(content.get("format"))}. Pass the '
            "folder of a saved model."
        )
    version = content.get("version")
    if version != VERSION:
        is_newer = isinstance(version, int) and version > VERSION
        remedy = "Update rotvq." if is_newer else "Train the model again with this rotvq."
        raise UserError(
            f"{path}: expected version {VERSION} of the format; got version {shown(version)}. "
            f"{remedy}"
        )
    return content


def _check_sizes(description: dict[str, Any], path: Path) -> None:
    """Check the integers in config.json.

    Raises:
        UserError: one is negative or larger than in any model.
    """
    for part in ("model", "quantizer"):
        for name, value in description[part].items():
            largest = _LARGEST.get(name, 2**31)
            if isinstance(value, int) and not 0 <= value <= largest:
                raise UserError(
                    f"{path}: {part}.{name}: expected 0 to {largest}; got {value}. Use the file "
                    "that was saved with the weights."
                )
