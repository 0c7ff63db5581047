"""The error bar over many seeds: does the interval cover as often as it says, and does the rigorous bound hold?

The small part of the benchmark of the same name, which has more cases and seeds.
"""

import pytest

from benchmarks.calibration import DELTA, study
from tests.cases import CALIBRATION
from tests.skewed_cases import SKEWED

_SEEDS = 60
_CASES = [
    "equicorrelated 0.8, all positive, n = 200",
    "product correlation, all positive, n = 300",
    "digits 0-4 against 5-9, n = 300",
    "MNIST constant, depth 10, n = 300",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", _CASES)
def test_calibration(name: str, request: pytest.FixtureRequest) -> None:
    if "MNIST" in name:
        request.getfixturevalue("image_data")
    found = study(CALIBRATION[name](), _SEEDS, 64, name)
    print(found)
    assert found["truth_stderr"] < 0.3 * found["mean_stderr"]
    # With a right error bar each fails with a probability under a hundredth.
    assert found["coverage"] >= 0.86
    assert abs(found["z_mean"]) <= 0.5
    assert 0.75 <= found["z_sd"] <= 1.4
    assert found["bound_failures"] <= _SEEDS * DELTA


@pytest.mark.slow
def test_calibration_where_weights_are_skewed() -> None:
    """With 32 particles per replicate z has a standard deviation of 1.5, and four intervals of five cover."""
    name = "exp(-0.1 d²) on 20 × 20, all positive"
    found = study(SKEWED[name](), _SEEDS, 256, name)
    print(found)
    assert found["particles"] > 200
    assert found["ok"] >= 0.9 * _SEEDS
    assert found["coverage_ok"] >= 0.86
    assert found["z_sd"] <= 1.35
    assert found["bound_failures"] <= _SEEDS * DELTA
