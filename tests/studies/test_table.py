"""How numbers are written in tables."""

import math

import pytest

from rotvq.studies.table import decimals, spread


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 3.0], "2.00 ± 1.41"),
        ([2.0], "2.00"),
        ([2.0, math.nan], "2.00"),
        ([math.nan], "—"),
        ([1234.5, 1234.5], "1,234.50 ± 0.00"),
    ],
)
def test_spread(values, text):
    assert spread(values, decimals(2)) == text
