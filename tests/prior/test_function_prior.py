import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel, log_prior, log_probability
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.progress import Progress

X = np.random.default_rng(0).standard_normal((20, 4))
LABELS = np.where(X[:, 0] > 0, 1, -1)


@pytest.mark.parametrize("options", [{}, {"method": "ep"}, {"seed": 3, "particles": 64, "replicates": 8}])
def test_is_the_kernel_and_then_the_probability(options: dict) -> None:
    architecture = FullyConnected(depth=1, activation="erf", bias_std=0.2)
    composed = log_probability(kernel(architecture, X), LABELS, **options)
    direct = log_prior(architecture, X, LABELS, **options)
    assert (direct.value, direct.stderr, direct.n, direct.method) == (
        composed.value,
        composed.stderr,
        20,
        options.get("method", "smc"),
    )
    assert direct.evidence == composed.evidence


def test_perceptron_in_two_dimensions() -> None:
    """Without bias, the probability that a random line separates as the labels say is the free angle over 2π."""
    angles = np.radians([0.0, 40.0, 75.0, 110.0])
    inputs = np.column_stack([np.cos(angles), np.sin(angles)])
    perceptron = FullyConnected(depth=0, bias_std=0)
    # All positive: w lies within 90° of every input, that is between 20° and 90°.
    everything = log_prior(perceptron, inputs, np.ones(4, dtype=int))
    assert everything.stderr is not None
    assert abs(everything.value - np.log(70 / 360)) < max(4 * everything.stderr, 1e-9)
    # The first against the others: w is between 90° and 130°.
    first = log_prior(perceptron, inputs, np.array([-1, 1, 1, 1]))
    assert first.stderr is not None
    assert abs(first.value - np.log(40 / 360)) < max(4 * first.stderr, 1e-9)


def test_progress_tells_of_the_kernel_and_of_the_estimate() -> None:
    events: list[Progress] = []
    log_prior(FullyConnected(), X, LABELS, progress=events.append)
    stages = [event.stage for event in events]
    assert stages[0] == "kernel tiles"
    assert "replicates" in stages


def test_what_cannot_be_used_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(InvalidInput, match="X: has shape"):
        log_prior(FullyConnected(), X[0], LABELS)
    with pytest.raises(InvalidLabels, match="y: "):
        log_prior(FullyConnected(), X, LABELS[:-1])
    with pytest.raises(InvalidInput, match="method"):
        log_prior(FullyConnected(), X, LABELS, method="typo")
