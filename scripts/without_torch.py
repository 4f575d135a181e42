"""Requirements from standard input to standard output, without torch's builds and their drivers."""

import re
import sys

TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    for requirement in re.split(r"(?m)^(?=\S)", sys.stdin.read()):
        if not TORCH.match(requirement):
            sys.stdout.write(requirement)


if __name__ == "__main__":
    main()
