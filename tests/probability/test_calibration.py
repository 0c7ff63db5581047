"""The error bar over 200 seeds: does the interval cover as often as it says, and does the rigorous bound hold?"""

import math
from collections.abc import Callable

import numpy as np
import pytest

from nngp_prior.probability import compute, prepare
from nngp_prior.schemas.data import Constant, Threshold
from nngp_prior.schemas.estimator import SMC
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth, mnist

_SEEDS = 200
_DELTA = 0.05
_LONG_RUN = SMC(particles=1024, replicates=512)

Case = Callable[[], tuple[np.ndarray, np.ndarray, float | None]]


def _equicorrelated(n: int, rho: float, kind: str) -> Case:
    labels = equicorrelated_labels(n, kind)
    return lambda: (equicorrelated(n, rho), labels, equicorrelated_truth(rho, labels))


_CASES: dict[str, Case] = {
    "equicorrelated 0.8, all positive, n = 200": _equicorrelated(200, 0.8, "positive"),
    "equicorrelated 0.5, all positive, n = 400": _equicorrelated(400, 0.5, "positive"),
    "equicorrelated 0.95, mixed, n = 100": _equicorrelated(100, 0.95, "mixed"),
    "MNIST constant, n = 300": lambda: (*mnist(300, Constant()), None),
    "digits 0-4 against 5-9, n = 300": lambda: (*digits(300, Threshold(at=5)), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _CASES)
def test_calibration(name: str, request: pytest.FixtureRequest) -> None:
    if "MNIST" in name:
        request.getfixturevalue("image_data")
    K, labels, truth = _CASES[name]()
    estimator = SMC()
    kernel = prepare(K, estimator)
    truth_error = 0.0
    if truth is None:
        long_run = compute(kernel, labels, _LONG_RUN, seed=10**6)
        assert long_run.stderr is not None
        truth, truth_error = long_run.value, long_run.stderr
    estimates = [compute(kernel, labels, estimator, seed) for seed in range(_SEEDS)]
    values = np.array([e.value for e in estimates])
    errors = np.array([e.stderr for e in estimates], dtype=float)
    z = (values - truth) / np.hypot(errors, truth_error)
    intervals = np.array([e.interval(0.95) for e in estimates], dtype=float)
    covered = np.mean((intervals[:, 0] - truth_error <= truth) & (truth <= intervals[:, 1] + truth_error))
    failures = sum((e.lower_bound(_DELTA) or 0) > truth + 4 * truth_error for e in estimates)
    print(
        f"\n{name}: truth {truth:.4f} ± {truth_error:.4f}, mean stderr {errors.mean():.4f}, "
        f"z {z.mean():+.2f} ± {z.std():.2f}, coverage {covered:.3f}, bound fails {failures}/{_SEEDS}, "
        f"heavy-tailed {sum(e.status == 'heavy-tailed' for e in estimates)}"
    )
    assert truth_error < 0.3 * errors.mean()
    assert 0.90 <= covered <= 0.99
    assert abs(z.mean()) <= 0.3
    assert failures <= _SEEDS * _DELTA + 4 * math.sqrt(_SEEDS * _DELTA * (1 - _DELTA))
