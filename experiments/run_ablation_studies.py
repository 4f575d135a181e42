"""Table 3: weights of the commitment loss β = 0.1, 0.25, 0.5, 1 and 2.

    python experiments/run_ablation_studies.py --preset cpu --data PATH_TO_CIFAR10

On 2 cores: 8 minutes with --preset cpu.
"""

import sys

from rotvq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", "table3", *sys.argv[1:]]))
