"""How rows are divided among programs."""

import triton


def tile(d: int) -> tuple[int, int]:
    """Rows and columns of the elements that a program holds, for rows of d elements."""
    width = triton.next_power_of_2(d)
    return max(1, 4096 // width), width
