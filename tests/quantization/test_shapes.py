"""The shapes and dtypes in the signatures of the core, checked at run time."""

import inspect

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from rotvq.quantization.codebook import Codebook
from rotvq.quantization.estimators import ESTIMATORS
from rotvq.quantization.search import nearest


def checked(function):
    # torch.no_grad hides the signature.
    return jaxtyped(inspect.unwrap(function), typechecker=beartype)


def test_search():
    assert checked(nearest)(torch.randn(5, 3), torch.randn(4, 3)).shape == (5,)
    with pytest.raises(TypeCheckError, match="The problem arose whilst typechecking"):
        checked(nearest)(torch.randn(5, 3), torch.randn(4, 2))


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=[*ESTIMATORS])
def test_estimators(estimator):
    z = torch.randn(2, 5, 3, dtype=torch.bfloat16)
    assert checked(estimator)(z, torch.randn(2, 5, 3)).dtype == torch.bfloat16
    with pytest.raises(TypeCheckError, match="The problem arose whilst typechecking"):
        checked(estimator)(z, torch.randn(5, 3))


def test_accumulate():
    codebook = Codebook(4, 3)
    accumulate = checked(Codebook.accumulate)
    valid = torch.ones(5, dtype=torch.bool)
    accumulate(codebook, torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), valid)
    assert codebook._n.sum() == 5
    with pytest.raises(TypeCheckError, match="typechecking parameter 'indices'"):
        accumulate(codebook, torch.randn(5, 3), torch.zeros(5, dtype=torch.int32), valid)
