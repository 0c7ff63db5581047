"""Sums of numbers given by their logarithms."""

import numpy as np
import pytest
from scipy.special import logsumexp

from nngp_prior.numerics.logarithms import log_sum_exp


@pytest.mark.parametrize("axis", [0, 1])
def test_equals_scipys(axis: int) -> None:
    x = np.random.default_rng(0).normal(scale=400.0, size=(5, 7))
    x[2] = x[:, 3] = -np.inf
    assert log_sum_exp(x, axis) == pytest.approx(logsumexp(x, axis=axis), rel=1e-14)


def test_not_a_number_remains() -> None:
    assert np.isnan(log_sum_exp(np.array([[0.0, np.nan]]), axis=1)).all()
