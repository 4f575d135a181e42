"""Table 2: codebooks of 256, 512, 1024 and 2048 vectors, first and last epoch.

    python experiments/run_comparative_study.py --preset cpu --data PATH_TO_CIFAR10

On 2 cores: 15 minutes with --preset cpu. K = 1024 is the base model, trained once for both.
"""

import sys

from rotvq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", "table2", *sys.argv[1:]]))
