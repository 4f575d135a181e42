"""Write the model of a run in half precision, as it ships with the package.

python scripts/release/pack.py RUN FOLDER
"""

import sys
from pathlib import Path

import torch

from rotvq.training.build import load_model


def main() -> None:
    run, folder = map(Path, sys.argv[1:])
    load_model(run).save_pretrained(folder, dtype=torch.float16)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
