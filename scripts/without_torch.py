"""Filter requirements from standard input: drop torch, triton and their GPU packages."""

import re
import sys

TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    for requirement in re.split(r"(?m)^(?=\S)", sys.stdin.read()):
        if not TORCH.match(requirement):
            sys.stdout.write(requirement)


if __name__ == "__main__":
    main()
