import math

import numpy as np
import pytest
from scipy.stats import sem, t

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.statistics import jackknife, mean_with_error, student_quantile

VALUES = np.random.default_rng(0).standard_normal(7)


@pytest.mark.parametrize("convert", [np.asarray, list])
def test_standard_error_of_a_mean(convert) -> None:
    assert mean_with_error(convert(VALUES)) == pytest.approx((VALUES.mean(), sem(VALUES)), rel=1e-14)


def test_single_and_infinite_values() -> None:
    assert mean_with_error([1.5]) == (1.5, math.inf)
    mean, error = mean_with_error([1.0, math.inf])
    assert mean == math.inf
    assert math.isnan(error)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    left_out = (VALUES.sum() - VALUES) / 6
    assert jackknife(left_out) == pytest.approx(sem(VALUES), rel=1e-12)
    assert jackknife(np.stack([left_out, 3 * left_out])) == pytest.approx(sem(VALUES) * np.array([1, 3]), rel=1e-12)


def test_quantile_of_student() -> None:
    assert student_quantile(4, 0.95) == pytest.approx(t.ppf(0.975, 4), rel=1e-12)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(InvalidInput, match="level"):
            student_quantile(4, level)
