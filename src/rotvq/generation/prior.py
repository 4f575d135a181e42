"""A prior over the tokens of images: a decoder-only transformer of Hugging Face transformers.

The distribution of an index is over the codes of its own codebook, so the negative log-likelihood
is the length of an ideal code, and every sample is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from rotvq.errors import UserError, first_line
from rotvq.files import to_json, write_bytes
from rotvq.generation.config import TransformerConfig
from rotvq.generation.vocabulary import LONGEST, PREFIX, Vocabulary
from rotvq.guarded import read_json, shown
from rotvq.model.weights import encode_weights, load_weights
from rotvq.paths import expanded

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT, VERSION = "rotvq prior", 1


class Prior(nn.Module):
    """A transformer that predicts each index of an image from those before it, and the class.

    Args:
        vocabulary: of its sequences.
        config: its size; random weights are drawn from torch's global generator.
    """

    def __init__(self, vocabulary: Vocabulary, config: TransformerConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        self.network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary.size,
                hidden_size=config.width,
                # Three matrices take as much as the usual two of four times the width.
                intermediate_size=-(-config.width * 8 // 3 // 16) * 16,
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                max_position_embeddings=PREFIX + LONGEST,
                bos_token_id=None,
                eos_token_id=None,
            )
        )

    @property
    def layers(self) -> nn.Module:
        """The layers between embedding and output."""
        return self.network.model.layers

    def forward(self, sequences: Int[Tensor, "b t"]) -> Float[Tensor, "b l"]:
        """The negative log-likelihood of each index after the prefix, in nats; 0 for padding.

        Args:
            sequences: of the vocabulary, padded with -1 on the right.
        """
        targets, step = sequences[:, PREFIX:].long(), self.vocabulary.indices_of_token
        nats = torch.zeros(targets.shape, device=targets.device)
        codes = enumerate(self.vocabulary.codes)
        for (level, own), logits in zip(codes, self.logits(self.embedded(sequences)), strict=True):
            wanted = targets[:, level::step]
            wanted = torch.where(wanted < 0, -1, wanted - own.start)
            nats[:, level::step] = F.cross_entropy(
                logits.float().flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=-1
            ).view_as(wanted)
        return nats

    def embedded(self, sequences: Int[Tensor, "b t"]) -> Float[Tensor, "b t-1 d"]:
        """The embeddings that all indices are predicted from."""
        embeddings: Tensor = self.network.model.embed_tokens(sequences[:, :-1].clamp_min(0))
        return embeddings

    def logits(self, embedded: Float[Tensor, "b t-1 d"]) -> Iterator[Float[Tensor, "b n k"]]:
        """The logits of all codes for each index after the prefix, given those before it.

        Args:
            embedded: from `embedded`.

        Yields:
            Those of the first index of all tokens, then those of the second, and so on.
        """
        hidden = self.network.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        hidden, weight = hidden[:, PREFIX - 1 :], self.network.lm_head.weight
        for level, codes in enumerate(self.vocabulary.codes):
            own = hidden[:, level :: self.vocabulary.indices_of_token]
            yield F.linear(own, weight[codes.start : codes.stop])

    def describe(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "prior": vars(self.config),
            "vocabulary": self.vocabulary.describe(),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, which `from_pretrained` loads.

        Args:
            folder: created if it does not exist. Each file is replaced atomically.

        Raises:
            UserError: weights are not finite.
        """
        folder, weights = expanded(folder), encode_weights(self)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / WEIGHTS, weights)
        write_bytes(folder / CONFIG, (to_json(self.describe(), indent=1) + "\n").encode())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Prior:
        """Load a prior, on the CPU and in evaluation mode.

        Args:
            folder: written by `save_pretrained` or `rotvq prior`; download one from the Hub with
                `huggingface_hub.snapshot_download`.

        Raises:
            UserError: it holds no prior, or a damaged one.
        """
        path = expanded(folder) / CONFIG
        vocabulary, config = _read(path)
        return load_weights(lambda: cls(vocabulary, config), path.with_name(WEIGHTS))


def _read(path: Path) -> tuple[Vocabulary, TransformerConfig]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{path.parent}: expected the folder of a prior; found no {CONFIG}. Pass a folder that "
            "`rotvq prior --out` wrote."
        ) from None
    content = content if isinstance(content, dict) else {}
    if content.get("format") != FORMAT:
        raise UserError(
            f'{path}: expected "format": "{FORMAT}"; got {shown(content.get("format"))}. Pass the '
            "folder of a prior, which `rotvq prior` trains on the tokens of a model."
        )
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: expected version {VERSION} of the format; got "
            f"{shown(content.get('version'))}. Use the rotvq that wrote it, or train again."
        )
    try:
        return Vocabulary.read(content["vocabulary"]), TransformerConfig(**content["prior"])
    # A crafted file can hold anything.
    except Exception as error:
        raise UserError(
            f"{path}: expected the description of a prior; it is damaged ({first_line(error)}). "
            "Use the file that was saved with the weights."
        ) from None
