"""The base model, epoch by epoch: training and test losses, perplexity and usage.

    python experiments/run_training_testing.py --preset cpu --data PATH_TO_CIFAR10

On 2 cores: 4 minutes with --preset cpu; seconds with --preset smoke, which needs no --data.
"""

import sys

from rotvq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", "training", *sys.argv[1:]]))
