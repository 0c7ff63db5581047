"""log P under an estimated kernel: what its error bar covers, and what is not claimed."""

import math
from typing import Any

import jax
import numpy as np
import pytest

from nngp_prior import (
    FromNetwork,
    FullyConnected,
    MonteCarlo,
    MonteCarloKernel,
    kernel,
    log_prior,
    log_probability,
    monte_carlo_kernel,
    pac_bayes_bounds,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.prior.uncertain_kernel import log_probability_under
from nngp_prior.probability import estimator_of
from nngp_prior.progress import Progress
from nngp_prior.schemas.results.estimate import Estimate

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 6))
LABELS = np.where(X[:, 0] > 0, 1, -1)
NETWORK = FullyConnected(depth=1, width=32, activation="erf", bias_std=0.3)
MONTE_CARLO = MonteCarlo(networks=64)

TRIPLET = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
SIGNS = np.array([1, -1, 1])


def sampled(rng: np.random.Generator, networks: int, batches: int = 32) -> MonteCarloKernel:
    """The kernel of ``networks`` draws from N(0, TRIPLET), for which log P is known in closed form."""
    h = rng.multivariate_normal(np.zeros(3), TRIPLET, size=(batches, networks // batches))
    sums = tuple(np.einsum("bri,brj->bij", h, h))
    return MonteCarloKernel(MonteCarlo(networks=networks), sums, np.full(batches, networks // batches), 1, False)


def closed_form(found: MonteCarloKernel, bootstraps: int = 20) -> Estimate:
    return log_probability_under(found, SIGNS, estimator_of("closed-form"), bootstraps, seed=0)


@pytest.mark.slow
def test_the_error_bar_is_calibrated_and_the_interval_covers() -> None:
    """Over 100 kernels, with no error but the kernel's; Student's t with 19 degrees of freedom has an s.d. of 1.06."""
    truth = log_probability(TRIPLET, SIGNS, method="closed-form").value
    rng = np.random.default_rng(1)
    z, covered = [], 0
    for _ in range(100):
        found = closed_form(sampled(rng, 320))
        assert found.diagnostics["estimator_stderr"] == 0
        assert found.stderr == found.diagnostics["kernel_stderr"]
        z.append((found.value - truth) / found.stderr)
        low, high = found.interval(0.9)
        covered += low <= truth <= high
    assert 0.85 < np.std(z) < 1.3
    assert abs(np.mean(z)) < 0.5
    assert 81 <= covered <= 98


@pytest.mark.slow
def test_the_bootstrap_shows_the_bias() -> None:
    """32 networks: log P under K̃ is too low on average; the bootstrap's bias is that on average, up to a third."""
    truth = log_probability(TRIPLET, SIGNS, method="closed-form").value
    rng = np.random.default_rng(2)
    found = [closed_form(sampled(rng, 32), 20) for _ in range(100)]
    deviations = np.array([estimate.value - truth for estimate in found])
    shown = np.array([estimate.diagnostics["kernel_bias"] for estimate in found])
    error = math.hypot(deviations.std(), shown.std()) / math.sqrt(len(found))
    assert shown.mean() < -4 * shown.std() / math.sqrt(len(found))
    assert abs(shown.mean() - deviations.mean()) < 4 * error + abs(shown.mean()) / 3


def test_is_log_p_of_the_estimated_kernel_with_both_errors() -> None:
    events: list[Progress] = []
    found = log_prior(NETWORK, X, LABELS, kernel=MONTE_CARLO, seed=3, bootstraps=8, progress=events.append)
    K = monte_carlo_kernel(NETWORK, X, MONTE_CARLO)
    own = log_probability(K.K, LABELS, seed=3)
    parts = found.diagnostics
    assert (found.value, parts["estimator_stderr"]) == (own.value, own.stderr)
    assert found.stderr == pytest.approx(math.hypot(own.stderr or 0, parts["kernel_stderr"]), rel=1e-12)
    assert parts["kernel_stderr"] > 3 * parts["estimator_stderr"]
    assert (parts["networks"], parts["kernel_batches"], parts["bootstraps"]) == (64, 32, 8)
    assert (parts["kernel_rank"], parts["kernel_rank_limit"], parts["ridge"]) == (12, 12, 0)
    assert parts["kernel_condition"] == pytest.approx(K.condition)
    assert [event.done for event in events if event.stage == "bootstrap kernels"] == list(range(9))
    assert [event.stage for event in events if event.cost] == ["networks", "bootstrap kernels"]
    assert {"networks", "replicates"} <= {event.stage for event in events}
    truth = log_prior(NETWORK, X, LABELS)
    assert abs(found.value - truth.value) < 4 * found.stderr
    low, high = found.interval()
    assert low < truth.value < high
    assert Estimate.model_validate_json(found.model_dump_json()) == found
    # The same bits again.
    again = log_prior(NETWORK, X, LABELS, kernel=MONTE_CARLO, seed=3, bootstraps=8)
    assert again.model_copy(update={"seconds": 0}) == found.model_copy(update={"seconds": 0})


def test_no_bound_is_claimed() -> None:
    found = closed_form(sampled(np.random.default_rng(0), 320))
    assert found.lower_bound() is None
    assert "no bound is rigorous" in found.message
    assert not any(bound.is_bound for bound in pac_bayes_bounds(found).values())


def test_a_method_without_an_error_statement_has_the_kernels_error_in_the_diagnostics() -> None:
    found = log_probability_under(sampled(np.random.default_rng(0), 320), SIGNS, estimator_of("ep"), 10, seed=0)
    assert found.stderr is None
    assert found.interval() is None
    assert 0 < found.diagnostics["kernel_stderr"] < 0.5
    assert "kernel_stderr in the diagnostics" in found.message


def test_too_few_networks_are_told() -> None:
    """With 2 networks of one output, three labels are determined by two; most labellings have P = 0."""
    rng = np.random.default_rng(0)
    found = closed_form(sampled(rng, 2, batches=2))
    assert found.diagnostics["kernel_rank"] == 2
    assert "rank 2 of 3" in found.message
    assert "use more networks" in found.message


def test_bootstrap_kernels_with_p_0_make_the_error_infinite() -> None:
    """Two batches: a bootstrap kernel of one batch twice has two features, a singular matrix."""
    one, other = np.array([[1.0, 1, 1], [1, -1, 1]]), np.array([[1.0, -1, 1], [1, -1, 2]])
    sums = (one.T @ one, other.T @ other)
    twice = MonteCarloKernel(MonteCarlo(networks=2), sums, np.array([1, 1]), 2, False)
    found = log_probability_under(twice, np.array([1, 1, -1]), estimator_of("closed-form"), 10, seed=0)
    assert math.isfinite(found.value)
    assert found.stderr == math.inf
    assert "P is 0 under" in found.message
    assert found.interval() == (-math.inf, 0.0)
    assert Estimate.model_validate_json(found.model_dump_json()).evidence == found.evidence


def test_an_impossible_labelling_has_no_error_bar() -> None:
    one = np.array([[1.0, 1, 1], [1, 1, -1], [2, 2, 1]])
    sums = (one.T @ one, one.T @ one)
    tied = MonteCarloKernel(MonteCarlo(networks=2), sums, np.array([1, 1]), 3, False)
    found = closed_form(tied)
    assert (found.value, found.status, found.stderr, found.evidence) == (-math.inf, "impossible", None, None)
    assert found.diagnostics["kernel_stderr"] is None


def test_a_ridge_is_reported() -> None:
    found = log_prior(NETWORK, X, LABELS, kernel=MonteCarlo(networks=8, ridge=0.1), method="ep", bootstraps=2)
    K = monte_carlo_kernel(NETWORK, X, MonteCarlo(networks=8))
    assert found.diagnostics["ridge"] == pytest.approx(0.1 * np.mean(K.K.diagonal()))
    assert found.diagonal_shift == found.diagnostics["ridge"]
    assert "estimate of K̃ + cI" in found.message


def init(key: Any, shape: tuple[int, ...]) -> tuple[None, Any]:
    return None, jax.random.normal(key, (shape[-1],))


def linear_kernel(X: Any, X2: Any, get: str) -> Any:
    return X @ (X if X2 is None else X2).T


def test_users_own_networks() -> None:
    whole = FromNetwork(init, lambda w, X: X @ w, linear_kernel, name="linear")
    inputs, labels = X[:5], LABELS[:5]
    expected = log_probability(inputs @ inputs.T, labels, method="ep").value
    assert kernel(whole, inputs) == pytest.approx(inputs @ inputs.T, rel=1e-12)
    assert log_prior(whole, inputs, labels, method="ep").value == pytest.approx(expected, abs=1e-12)
    pair = FromNetwork(init, lambda w, X: X @ w, name="linear pair")
    with pytest.raises(InvalidInput, match=r"'linear pair' has no kernel_fn.*MonteCarlo"):
        log_prior(pair, inputs, labels)
    found = log_prior(pair, inputs, labels, kernel=MonteCarlo(networks=4000), method="ep")
    assert abs(found.value - expected) < 4 * found.diagnostics["kernel_stderr"]


def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what users have
    with pytest.raises(InvalidInput, match=r"kernel: got ndarray\. Pass MonteCarlo"):
        log_prior(NETWORK, X, LABELS, kernel=np.eye(12))  # pyright: ignore[reportArgumentType]
    for bootstraps in (1, 2.5):
        with pytest.raises(InvalidInput, match="bootstraps: got"):
            log_prior(NETWORK, X, LABELS, kernel=MONTE_CARLO, bootstraps=bootstraps)  # pyright: ignore[reportArgumentType]
