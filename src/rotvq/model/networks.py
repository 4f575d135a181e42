"""Encoders and decoders by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

from torch import nn

from rotvq.model.blocks import Decoder, Encoder
from rotvq.model.patches import PatchDecoder, PatchEncoder
from rotvq.names import NetworkName

Network = Callable[[int, int, int, int, int], nn.Sequential]

NETWORKS: dict[str, tuple[Network, Network]] = dict(
    zip(
        get_args(NetworkName),
        (
            (Encoder, Decoder),
            (PatchEncoder, PatchDecoder),
            (partial(PatchEncoder, attention=True), partial(PatchDecoder, attention=True)),
        ),
        strict=True,
    )
)
"""Encoder and decoder by name: functions of channels, width, dim, depth and stages."""
