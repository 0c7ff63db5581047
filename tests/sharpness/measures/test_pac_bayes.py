import jax
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from nngp_prior.numerics.random import generator
from nngp_prior.schemas.measures.neighbourhoods import PACBayes
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.risk.networks import high_precision
from tests.sharpness.cases import of_matrix
from tests.sharpness.quadratics import linear


def one(risk, seed: int = 0, **options):
    (found,) = measure_risk(risk, [PACBayes(**options)], seed).measurements
    return found


def example(right: bool = True):
    """A linear classifier on one example: inputs with the one of the bias, parameters, and the margin f y."""
    risk = linear()
    x, theta = np.append(np.asarray(risk.X)[0], 1.0), np.asarray(risk.theta)
    f = x @ theta
    theta = theta if (f * float(risk.y[0]) > 0) == right else -theta
    return risk.subset([0]).at(theta), x, theta, abs(f)


def deviation(x, theta, options) -> float:
    """σ with Φ(-m / s(σ)) = d, where s is the standard deviation of x·u."""
    _, _, _, margin = example()
    s = -margin / norm.ppf(options.get("drop", 0.1))
    epsilon = options.get("epsilon", 1e-3)

    def of_output(sigma: float) -> float:
        squared = options.get("compatibility") == "dziugaite2020"
        if options.get("noise") == "magnitude":
            each = sigma**2 * theta**2 + epsilon**2 if squared else np.sqrt(sigma**2 * theta**2 + epsilon**2)
        else:
            each = np.full(len(theta), sigma**2 if squared else sigma)
        return float(np.linalg.norm(each * x))

    return brentq(lambda sigma: of_output(sigma) - s, 1e-6, 1e3, xtol=1e-12)


OPTIONS = [
    {},
    {"drop": 0.25},
    {"noise": "magnitude", "epsilon": 0.01},
    {"compatibility": "dziugaite2020"},
    {"noise": "magnitude", "epsilon": 0.1, "compatibility": "dziugaite2020"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_of_a_linear_classifier_it_is_that_of_the_normal_distribution(options: dict) -> None:
    risk, x, theta, _ = example()
    found = one(risk, perturbations=4000, **options)
    assert abs(found.value - deviation(x, theta, options) ** -2) < 4 * found.stderr < 0.4 * found.value
    assert found.diagnostics["sigma"] == pytest.approx(found.value**-0.5)
    assert found.diagnostics["drop"] == pytest.approx(options.get("drop", 0.1), abs=2e-3)
    assert found.diagnostics["training_error"] == 0
    assert found.name == ("pac_bayes_magnitude" if "noise" in options else "pac_bayes")


def test_it_is_found_to_the_tolerance_for_the_vectors_at_hand() -> None:
    """The classifier errs under vector k from σ = -m / (x·z_k) on, if that is positive."""
    risk, x, _, margin = example()
    found = one(risk, 5, perturbations=400, tolerance=1e-6)
    own = int(generator(5, "pac-bayes").integers(2**63))
    with high_precision():
        key = jax.random.key(int(generator(own, "perturbations").integers(2**32)))
        Z = [np.asarray(jax.random.normal(jax.random.fold_in(key, k), (7,), "float64")) for k in range(400)]
    along = float(risk.y[0]) * np.array(Z) @ x
    thresholds = np.sort(-margin / along[along < 0])
    assert found.diagnostics["sigma"] == pytest.approx(thresholds[40], rel=1e-6)


def test_standard_errors_are_calibrated() -> None:
    risk, x, theta, _ = example()
    exact = deviation(x, theta, {}) ** -2
    figures = [one(risk, seed, perturbations=400) for seed in range(25)]
    standardised = np.array([(each.value - exact) / each.stderr for each in figures])
    assert np.sqrt(np.mean(standardised**2)) == pytest.approx(1, rel=0.4)


def test_the_drop_is_from_the_networks_own_error() -> None:
    risk = linear().at(-np.asarray(linear().theta))
    assert 0 < float(risk.error(risk.theta)) < 0.5
    found = one(risk, perturbations=400)
    sigma, X = found.diagnostics["sigma"], np.column_stack([np.asarray(risk.X), np.ones(risk.n)])
    f, y = X @ np.asarray(risk.theta), np.asarray(risk.y)
    exact = np.mean(norm.cdf(-y * f / (sigma * np.linalg.norm(X, axis=1)))) - np.mean(y * f <= 0)
    assert abs(exact - 0.1) < 4 * found.diagnostics["drop_stderr"]


def test_cost_and_progress() -> None:
    events, risk = [], example()[0]
    (found,) = measure_risk(risk, [PACBayes(perturbations=400)], 0, events.append).measurements
    own = [event for event in events if event.stage != "measures"]
    assert own[-1].done == own[-1].total
    assert found.gradients == pytest.approx((1 + 400 * own[-1].done) / 3)


def test_what_has_no_such_deviation_is_degenerate() -> None:
    wrong = one(example(right=False)[0], perturbations=400)
    assert wrong.status == "degenerate"
    assert np.isnan(wrong.value)
    assert "more than 0.1 from that of an error of 1 at no σ up to 1e+12" in wrong.message
    constant = one(of_matrix(np.zeros((2, 2))), perturbations=400)
    assert constant.status == "degenerate"
    noisy = one(example()[0], perturbations=400, noise="magnitude", epsilon=1e3)
    assert noisy.status == "degenerate"
    assert "at any σ down to 9e-13; pass a smaller epsilon" in noisy.message


def test_in_float32() -> None:
    found = one(example()[0], perturbations=400)
    risk = linear(dtype="float32").subset([0]).at(example()[2])
    other = one(risk, perturbations=400)
    assert abs(found.value - other.value) < 4 * np.hypot(found.stderr, other.stderr)
