"""Pictures for a notebook: the codes of a model, and how images use them."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.report.codebook import sheet
from rotvq.tokens.code_pictures import MOST_CODES, code_pictures
from rotvq.tokens.collection import Tokens

IMAGES = 12
"""Images in a plot of their codes, at most."""


def plot_codebook(model: VQVAE, title: str = "Codebook") -> Image.Image:
    """A picture of every code of a model, similar codes side by side.

    Each code is decoded in the middle of the tokens of a mid-gray image; the tile shows its token
    and half of the neighboring ones. With up to 1,024 codes, tiles are numbered. Several codebooks
    (residual or grouped) get a section each, in which only their index of the token varies.

    Args:
        model: in evaluation mode during the call.
        title: of the picture.

    Returns:
        An RGB image, about 1,600 pixels wide.

    Raises:
        UserError: the model has more than 65,536 codes altogether.
    """
    sizes = model.quantizer.codebook_sizes
    if sum(sizes) > MOST_CODES:
        raise UserError(
            f"codebook: expected at most {MOST_CODES:,} codes to draw; got {sum(sizes):,}. Decode "
            "the codes of interest with model.decode."
        )
    sections = []
    for number, size in enumerate(sizes):
        which = f" {number + 1} of {len(sizes)}" if len(sizes) > 1 else ""
        about = f"{title}{which}: {size:,} codes, each decoded in the middle of a mid-gray image"
        pixels = code_pictures(model, number).permute(0, 2, 3, 1)
        sections.append((about, pixels.expand(-1, -1, -1, 3).numpy()))
    return sheet(sections)


def plot_usage(tokens: Tokens, codebook: int = 0) -> Image.Image:
    """How each image uses the codes: where common codes lie, and how often each code occurs.

    Needs matplotlib (`rotvq[train]`).

    Args:
        tokens: of 1 to 12 images.
        codebook: which index of each token, if there are several codebooks.

    Returns:
        An RGB image with a row for each image. Left: each token, colored by how many tokens of the
        image have its code. Right: the number of tokens of each code, in descending order.

    Raises:
        UserError: too many images or none, or no such codebook.
    """
    from rotvq.report.usage import usage

    sizes = tokens.codec.codebook_sizes
    if not 1 <= len(tokens) <= IMAGES:
        raise UserError(
            f"tokens: expected 1 to {IMAGES} images; got {len(tokens):,}. Pass a slice, such as "
            f"tokens[:{IMAGES}]."
        )
    if codebook not in range(len(sizes)):
        raise UserError(f"codebook: expected 0 to {len(sizes) - 1}; got {codebook}.")
    grids = [each.reshape(*each.shape[:2], -1)[:, :, codebook] for each in tokens]
    titles = [f"image {number}" for number in range(len(tokens))]
    if tokens.names is not None:
        titles = [name or title for name, title in zip(tokens.names, titles, strict=True)]
    image = Image.open(BytesIO(usage(grids, sizes[codebook], titles)))
    return image.convert("RGB")
