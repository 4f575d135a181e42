"""The final experiment: the long run, its last and its best model, fully evaluated.

    python experiments/run_final_experiment.py --preset cpu --data PATH_TO_CIFAR10

On 2 cores: 11 minutes with --preset cpu.
"""

import sys

from rotvq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", "final", *sys.argv[1:]]))
