import pytest

from rotvq.training.collapse import warning
from rotvq.training.config import QuantizerConfig


def history(*usages):
    return [{"train": {"usage": usage}} for usage in usages]


@pytest.mark.parametrize(
    "usages", [(), (0.1,), (0.1, 0.2), (0.9, 0.5), (0.4, 0.43), (0.2, 0.1, 0.3)]
)
def test_a_codebook_that_is_used_or_comes_into_use_needs_no_word(usages):
    assert warning(history(*usages), QuantizerConfig()) is None


@pytest.mark.parametrize("usages", [(0.25, 0.25), (0.9, 0.25), (0.5, 0.3, 0.31)])
def test_a_collapse_is_told_with_its_numbers(usages):
    said = warning(history(*usages), QuantizerConfig())
    assert f"{round(1024 * usages[-1]):,} of 1,024 codes" in said
    assert f"after {round(1024 * usages[-2]):,} an epoch ago" in said


@pytest.mark.parametrize(
    ("quantizer", "remedy"),
    [
        ({}, "--quantizer.restart 0.03"),
        ({"restart": 0.03, "estimator": "straight_through"}, "--quantizer.estimator rotation"),
        ({"restart": 0.03}, "--training.learning_rate"),
        ({"levels": "4,4", "codebook_size": 16}, "fewer levels"),
    ],
)
def test_the_remedy_is_one_that_is_not_taken_yet(quantizer, remedy):
    assert remedy in warning(history(0.2, 0.2), QuantizerConfig(**quantizer))
