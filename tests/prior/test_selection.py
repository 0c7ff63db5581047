"""Choice of σ_w, σ_b and architecture by log P of the training labels."""

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel, log_prior, log_probability, pac_bayes_bounds
from nngp_prior.errors import InvalidInput
from nngp_prior.prior.selection import phase_diagram, select_architecture


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Labels that change sign several times over the inputs: σ_w should be large."""
    X = np.random.default_rng(0).standard_normal((160, 2))
    return X, np.where(np.sin(2.5 * X[:, 0]) + 0.5 * np.sin(2.5 * X[:, 1]) > 0, 1, -1)


def test_log_p_and_test_errors_improve(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    given = FullyConnected(depth=1, activation="erf", weight_std=0.5, bias_std=0.05)
    events = []
    found = select_architecture(
        given, X[:80], y[:80], X_test=X[80:], y_test=y[80:], jitter=1e-6, progress=events.append
    )
    assert [each.optimised for each in found] == [True, False]
    best, first = found
    assert best.log_p.value > first.log_p.value + 5
    assert best.test_error is not None
    assert first.test_error is not None
    assert best.test_error.value < first.test_error.value
    assert first.architecture == given
    assert first.log_p.value == log_prior(given, X[:80], y[:80], jitter=1e-6).value
    assert events[-1].done == events[-1].total == 1
    # EP's log Z hardly depends on σ_b here, and has its maximum over σ_w where it was found
    weight_std = found.best.weight_std * np.array([0.7, 1.0, 1.4])
    around = phase_diagram(given, X[:80], y[:80], jitter=1e-6, weight_std=weight_std, bias_std=[found.best.bias_std])
    assert np.argmax(around.log_z) == 1


def test_choices_and_bounds(data: tuple[np.ndarray, np.ndarray]) -> None:
    """ln k is the price: 2 architectures, 3 values of σ_w within 4 %, 51 of σ_b in a decade."""
    X, y = data
    family = [FullyConnected(depth=depth, activation="erf") for depth in (1, 2)]
    found = select_architecture(
        family, X[:30], y[:30], weight_std=(1.0, 1.1), bias_std=(0.1, 1.0), particles=8, replicates=8
    )
    assert len(found) == 4
    assert found.choices == 2 * 3 * 51
    assert [each.log_p.value for each in found] == sorted((each.log_p.value for each in found), reverse=True)
    plain = pac_bayes_bounds(found[0].log_p, delta=0.05 / found.choices)["realizable"]
    priced = found.bounds(delta=0.05)["realizable"]
    assert priced.value == plain.value
    assert priced.delta + priced.delta_estimator == pytest.approx(0.05)
    for each in found:
        if each.optimised:
            assert 1.0 <= each.architecture.weight_std <= 1.1
            assert 0.1 <= each.architecture.bias_std <= 1.0
    frame = found.to_pandas()
    assert list(frame["weight_std"]) == [each.architecture.weight_std for each in found]
    assert frame["test_error"].isna().all()
    assert found.plot().get_ylabel() == "log P(S) (nats)"


def test_phase_diagram(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    architecture = FullyConnected(depth=1, activation="erf")
    found = phase_diagram(architecture, X[:40], y[:40], weight_std=[1.0, 4.0], bias_std=[0.1, 0.5, 2.0])
    assert found.log_z.shape == (2, 3)
    K = kernel(FullyConnected(depth=1, activation="erf", weight_std=4.0, bias_std=0.5), X[:40])
    assert found.log_z[1, 1] == pytest.approx(log_probability(K, y[:40], "ep").value, abs=1e-3)
    assert len(found.to_pandas()) == 6
    assert "largest log Z" in repr(found)
    assert found.plot().get_xscale() == "log"


def test_bad_input(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    a = FullyConnected()
    with pytest.raises(InvalidInput, match="family: is not"):
        select_architecture([], X, y)
    with pytest.raises(InvalidInput, match="y_test: is missing"):
        select_architecture(a, X, y, X_test=X)
    with pytest.raises(InvalidInput, match="weight_std: got"):
        select_architecture(a, X, y, weight_std=(2.0, 1.0))
    with pytest.raises(InvalidInput, match="classes: got 3"):
        select_architecture(a, X, y, classes=3)
    with pytest.raises(InvalidInput, match="bias_std: got"):
        phase_diagram(a, X, y, bias_std=[0.0, 1.0])
