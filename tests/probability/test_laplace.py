import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import log_expit, log_ndtr
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from nngp_prior import log_probability
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Threshold
from tests.cases import digits, equicorrelated, equicorrelated_labels

_LINKS = {"probit": log_ndtr, "logistic": lambda z: log_expit(z * math.pi / math.sqrt(3))}


def _laplace(K: np.ndarray, labels, noise_variance: float, **options) -> float:
    estimate = log_probability(K, labels, method="laplace", noise_variance=noise_variance, **options)
    assert estimate.status == "ok"
    return estimate.value


def _dense(K: np.ndarray, labels: np.ndarray, noise_variance: float, link: str) -> float:
    """Mode by a general optimiser, curvature by differences: log ∫ exp Ψ ≈ Ψ(ĝ) + n/2 log 2π - ½ log |-∇∇Ψ|."""
    n = len(K)
    inverse = np.linalg.inv(K)

    def likelihood(g: np.ndarray) -> np.ndarray:
        return _LINKS[link](labels * g / math.sqrt(noise_variance))

    def minus_psi(g: np.ndarray) -> float:
        return 0.5 * g @ inverse @ g - likelihood(g).sum()

    mode = minimize(minus_psi, np.zeros(n), method="BFGS", options={"gtol": 1e-9}).x
    step = 1e-3 * math.sqrt(noise_variance)
    W = -(likelihood(mode + step) - 2 * likelihood(mode) + likelihood(mode - step)) / step**2
    log_determinants = np.linalg.slogdet(inverse + np.diag(W))[1] + np.linalg.slogdet(K)[1]
    return -minus_psi(mode) - 0.5 * log_determinants


@pytest.mark.parametrize("link", ["probit", "logistic"])
@pytest.mark.parametrize("noise_variance", [0.1, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_general_optimiser(seed: int, noise_variance: float, link: str) -> None:
    """Variances differ, so that noise is another part of each."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((5, 7)) * np.array([0.5, 1.0, 2.0, 0.7, 3.0])[:, None]
    K, labels = A @ A.T, rng.choice([-1, 1], 5)
    ours = _laplace(K, labels, noise_variance, link=link)
    assert ours == pytest.approx(_dense(K, labels, noise_variance, link), abs=1e-5)


@pytest.mark.parametrize("amplitude", [0.5, 20.0, 1e3])
def test_logistic_agrees_with_scikit_learn(amplitude: float) -> None:
    """Its logistic has unit scale, which is variance π²/3."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 2))
    labels = np.where(X[:, 0] + 0.3 * rng.standard_normal(60) > 0, 1, -1)
    kernel = ConstantKernel(amplitude) * RBF(0.8)
    theirs = GaussianProcessClassifier(kernel, optimizer=None).fit(X, labels).log_marginal_likelihood_value_
    assert _laplace(kernel(X), labels, math.pi**2 / 3, link="logistic") == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_equal_inputs_with_noise_are_one_latent_value_seen_twice(link: str) -> None:
    """K is singular; the mode solves a scalar equation."""
    v, log_p = 0.5, _LINKS[link]

    def derivative(g: float, order: int) -> float:
        step = 1e-4
        values = [2 * float(log_p((g + k * step) / math.sqrt(v))) for k in (-1, 0, 1)]
        return (values[2] - values[0]) / (2 * step) if order == 1 else (values[2] - 2 * values[1] + values[0]) / step**2

    mode = brentq(lambda g: derivative(g, 1) - g, 0, 10, xtol=1e-12)
    truth = 2 * float(log_p(mode / math.sqrt(v))) - 0.5 * mode**2 - 0.5 * math.log(1 - derivative(mode, 2))
    assert _laplace(np.ones((2, 2)), [1, 1], v, link=link) == pytest.approx(truth, abs=1e-6)


def test_nears_the_orthant_probability_of_k_plus_noise_as_noise_grows() -> None:
    K, labels = equicorrelated(40, 0.6), equicorrelated_labels(40, "positive")
    errors = []
    for v in (0.1, 1.0, 10.0, 100.0):
        truth = log_probability(K, labels, method="closed-form", noise_variance=v).value
        errors.append(abs(_laplace(K, labels, v) - truth))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 5e-4
    assert errors[0] > 0.5


def test_logistic_nears_probit_where_noise_is_all() -> None:
    """For v → ∞ only the slope of the link at 0 counts: 1/√(2πv) for one, π/(4√(3v)) for the other."""
    K, labels = equicorrelated(10, 0.5), np.ones(10, dtype=int)
    v = 1e6
    gains = [_laplace(K, labels, v, link=link) + 10 * math.log(2) for link in ("probit", "logistic")]
    # log P ≈ -n log 2 + ½ (2 slope)² (1ᵀK1 - tr K), the slope that of the link in f.
    assert gains[0] == pytest.approx(0.5 * 4 / (2 * math.pi * v) * 45, rel=1e-2)
    assert gains[1] == pytest.approx(0.5 * 4 * math.pi**2 / (48 * v) * 45, rel=1e-2)


def test_only_the_ratio_of_noise_to_k_counts() -> None:
    K, labels = digits(50, Threshold(at=5))
    reference = _laplace(K, labels, 0.2)
    assert _laplace(1e6 * K, labels, 0.2e6) == pytest.approx(reference, abs=1e-8)
    assert _laplace(1e-6 * K, labels, 0.2e-6) == pytest.approx(reference, abs=1e-8)
    assert _laplace(K, -labels, 0.2) == pytest.approx(reference, abs=1e-9)


def test_jitter_is_part_of_the_prior() -> None:
    K, labels = digits(30, Threshold(at=5))
    jittered = log_probability(K, labels, method="laplace", noise_variance=0.3, jitter=0.1)
    mean = np.mean(np.diagonal(K))
    assert jittered.value == pytest.approx(_laplace(K + 0.1 * mean * np.eye(30), labels, 0.3), abs=1e-7)
    assert jittered.message == f"estimate of K + cI with c = {0.3 + 0.1 * mean:g}"


@pytest.mark.parametrize("link", ["probit", "logistic"])
@pytest.mark.parametrize("noise_variance", [1e-10, 1e-6, 1e-3, 1e6])
def test_newton_converges_from_almost_no_noise_to_almost_nothing_else(noise_variance: float, link: str) -> None:
    for K, labels in (digits(60, Threshold(at=5)), (equicorrelated(20, 0.99), equicorrelated_labels(20, "mixed"))):
        estimate = log_probability(K, labels, method="laplace", noise_variance=noise_variance, link=link)
        assert estimate.status == "ok"
        assert estimate.diagnostics["newton_steps"] < 40


def test_no_error_statement_and_what_it_is_of() -> None:
    estimate = log_probability(equicorrelated(5, 0.5), [1] * 5, method="laplace", noise_variance=1, link="logistic")
    assert estimate.stderr is None
    assert estimate.interval() is None
    assert estimate.lower_bound() is None
    assert estimate.message == "estimate of K + cI with c = 1; logistic noise, of the variance asked for"


def test_says_when_it_has_not_converged() -> None:
    K, labels = digits(50, Threshold(at=5))
    estimate = log_probability(K, labels, method="laplace", noise_variance=1e-3, max_iterations=2)
    assert estimate.status == "not-converged"
    assert "after 2 steps; raise max_iterations" in estimate.message
    enough = log_probability(K, labels, method="laplace", noise_variance=1e-3)
    assert abs(estimate.value - enough.value) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"noise_variance: got 0.0. Laplace's approximation needs a smooth likelihood: pass noise_variance > 0"),
        ({"noise_variance": 0}, "noise_variance: got 0"),
        ({"noise_variance": -1.0}, "noise_variance: got -1.0"),
        ({"noise_variance": 1e-30}, r"noise_variance: got 1e-30, too small for float64 .* Pass at least 3e-13"),
        ({"noise_variance": 1.0, "link": "cauchy"}, "link: got 'cauchy'"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        log_probability(equicorrelated(3, 0.5), [1, 1, 1], method="laplace", **options)


def test_progress_ends_where_it_should() -> None:
    K, labels = digits(30, Threshold(at=5))
    events: list[Progress] = []
    log_probability(K, labels, method="laplace", noise_variance=0.1, progress=events.append)
    assert {event.stage for event in events if event.cost is None} == {"Newton steps"}
    assert events[-1].done == events[-1].total
