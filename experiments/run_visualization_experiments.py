"""Figures 1 to 8: reconstructions, t-SNE of the codebook, and gradient norms, during training.

    python experiments/run_visualization_experiments.py --preset cpu --data PATH_TO_CIFAR10

On 2 cores: 5 minutes with --preset cpu, half a minute once the base model is trained.
"""

import sys

from rotvq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", "figures", *sys.argv[1:]]))
