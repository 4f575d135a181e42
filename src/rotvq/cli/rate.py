"""Options for the number of bits that tokens take under a prior."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rotvq.cli.options import Parser
from rotvq.errors import UserError
from rotvq.paths import expanded

if TYPE_CHECKING:
    from rotvq.generation import PriorRate
    from rotvq.model import VQVAE
    from rotvq.tokens.collection import Picture

WEIGHT = 0.03
"""The default λ."""


def add_rate(parser: Parser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "bits",
        "With --prior, the command reports the bits that tokens take under a prior, and --effort "
        "searches for tokens that minimize error + λ x bits.",
    )
    group.add_argument(
        "--prior",
        type=expanded,
        help="folder of a prior over tokens of this model, from rotvq prior",
    )
    group.add_argument(
        "--rate-weight",
        type=float,
        metavar="λ",
        help=f"with --effort: squared error on [-1, 1] that a bit is worth (default: {WEIGHT})",
    )


def check_rate(options: Namespace) -> None:
    """Check that the options fit together.

    Raises:
        UserError: they do not.
    """
    if options.rate_weight is not None and not (options.prior and options.effort):
        raise UserError("--rate-weight: expected --prior and --effort with it; one is missing.")
    if options.prior and options.shard_size is not None:
        raise UserError("--prior: expected a single token file; got --shard-size.")
    if options.prior and options.levels is not None:
        raise UserError(
            "--prior: expected tokens of all levels, which the prior was trained on; got --levels "
            f"{options.levels}. Leave out one of the two."
        )


def modeled(images: Iterable[Picture], rate: PriorRate) -> Iterator[Picture]:
    """Yield the images.

    Raises:
        UserError: the prior was not trained on images of a size; names the image.
    """
    vocabulary = rate.prior.vocabulary
    for image in images:
        try:
            vocabulary.check_grid(vocabulary.codec.grid(image.pixels.shape[1:]))
        except UserError as error:
            raise UserError(f"{image.name}: {error}") from None
        yield image


def load_rate(options: Namespace, model: VQVAE) -> PriorRate:
    """λ times the bits under the prior of the options.

    Raises:
        UserError: there is no such prior, it is damaged or of another model, or λ is not allowed.
    """
    from rotvq.generation import Prior, PriorRate
    from rotvq.training.environment import default_device

    prior = Prior.from_pretrained(options.prior).to(default_device())
    weight = WEIGHT if options.rate_weight is None else options.rate_weight
    return PriorRate(prior, model, weight)
