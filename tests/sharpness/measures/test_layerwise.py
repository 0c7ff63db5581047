"""Measures made of layers' norms and traces, against dense Hessians."""

import numpy as np
import pytest
from scipy.optimize import minimize

from nngp_prior import FullyConnected
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.layerwise import MinimumSharpness, ScaledEigenvalue, WeightCurvatureIndex
from nngp_prior.schemas.measures.registry import measure_of
from nngp_prior.schemas.specs.architecture import Convolutional, ConvolutionLayer
from nngp_prior.sharpness import EmpiricalRisk
from nngp_prior.sharpness.measurement import checked, measure_risk
from nngp_prior.sharpness.risk.networks import finite_network
from tests.sharpness.cases import data, dense, images, of_matrix, small

LINEAR = FullyConnected(depth=2, width=3, activation="identity", bias_std=0)


def weights(risk: EmpiricalRisk) -> list[slice]:
    return [slice(block.start, block.stop) for block in risk.blocks if block.role == "weight"]


def traces(risk: EmpiricalRisk) -> np.ndarray:
    H = dense(risk)
    return np.array([np.trace(H[part, part]) for part in weights(risk)])


def norms(risk: EmpiricalRisk) -> np.ndarray:
    return np.array([np.linalg.norm(np.asarray(risk.theta)[part]) for part in weights(risk)])


PROBLEMS = {
    "dense, erf": (lambda: small("mse"), 2 * (5 + 5 + 1)),
    "piecewise linear": (images, 1),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_they_are_as_defined(name: str) -> None:
    make, cost = PROBLEMS[name]
    risk = make()
    T, N = traces(risk), norms(risk)
    assert (T > 0).all()
    asked = [MinimumSharpness(), MinimumSharpness(traces="basis"), WeightCurvatureIndex()]
    exact, basis, index = measure_risk(risk, asked, 0).measurements
    for found in (exact, basis):
        assert list(found.diagnostics["traces"].values()) == pytest.approx(T, rel=1e-9)
        assert list(found.diagnostics["norms"].values()) == pytest.approx(N, rel=1e-12)
        assert found.value == pytest.approx(len(T) * np.prod(T) ** (1 / len(T)), rel=1e-9)
    assert index.value == pytest.approx(np.sum(N * np.sqrt(T)), rel=1e-9)
    assert exact.stderr is basis.stderr is index.stderr is None
    assert exact.gradients == index.gradients == cost
    assert basis.gradients == 2 * sum(part.stop - part.start for part in weights(risk))


def test_minimum_sharpness_is_the_least_sum_of_traces_under_rescaling() -> None:
    """A linear network without biases stays the same function where its layers' factors multiply to 1."""
    X, y = data(8, 2)
    risk = EmpiricalRisk.of(LINEAR, finite_network(LINEAR, (2,)).init(1), X, y, loss="mse")

    def total(logs: np.ndarray) -> float:
        theta = np.array(risk.theta)
        for part, log in zip(weights(risk), [*logs, -logs.sum()], strict=True):
            theta[part] *= np.exp(log)
        (found,) = measure_risk(risk.at(theta), [MinimumSharpness()], 0).measurements
        assert found.value == pytest.approx(value, rel=1e-9)
        return sum(found.diagnostics["traces"].values())

    value = measure_risk(risk, [MinimumSharpness()], 0)["minimum_sharpness"].value
    least = minimize(total, np.array([0.3, -0.5]), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-10})
    assert value == pytest.approx(least.fun, rel=1e-6)


def test_random_vectors_have_an_honest_error() -> None:
    risk = images()
    exact = [m.value for m in measure_risk(risk, [MinimumSharpness(), WeightCurvatureIndex()], 0).measurements]
    asked = [MinimumSharpness(traces=40), WeightCurvatureIndex(traces=40)]
    found = [list(measure_risk(risk, asked, seed).measurements) for seed in range(12)]
    T, N, blocks = traces(risk), norms(risk), [dense(risk)[part, part] for part in weights(risk)]
    # Of random signs: 2 (‖H_l‖_F² - Σ H_ii²) / m; and how the figures change with Tr H_l
    variances = np.array([2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 40 for H in blocks])
    slopes = [np.sqrt(np.prod(T)) / T, N / (2 * np.sqrt(T))]
    for k, value in enumerate(exact):
        errors = np.array([row[k].value - value for row in found])
        stderrs = np.array([row[k].stderr for row in found])
        assert (np.abs(errors) < 4 * stderrs).all()
        assert np.sqrt(np.mean(stderrs**2)) == pytest.approx(np.sqrt(np.sum(slopes[k] ** 2 * variances)), rel=0.3)
        assert len(set(errors)) == 12
    assert found[0][0].gradients == 2 * 2 * 40


def test_scaled_eigenvalue() -> None:
    risk = small()
    places = np.concatenate([np.arange(part.start, part.stop) for part in weights(risk)])
    N = norms(risk)
    scales = np.concatenate([np.full(p.stop - p.start, norm) for p, norm in zip(weights(risk), N, strict=True)])
    H = dense(risk)[np.ix_(places, places)]
    expected = np.linalg.eigvalsh(scales[:, None] * H * scales)[-1]
    asked = [ScaledEigenvalue(tolerance=1e-9), ScaledEigenvalue(max_steps=2)]
    found, cut_short = measure_risk(risk, asked, 0).measurements
    assert found.value == pytest.approx(expected, rel=1e-8)
    assert (found.name, found.status) == ("scaled_lambda_max", "ok")
    assert found.gradients - 2 * found.diagnostics["steps"] in (0, 1)
    assert cut_short.status == "not-converged"
    assert "max_steps" in cut_short.message


def test_negative_and_zero_traces() -> None:
    risk = small()
    T = traces(risk)
    negative = risk
    for seed in range(20):
        negative = risk.at(finite_network(risk.network.architecture, (4,)).flatten(
            finite_network(risk.network.architecture, (4,)).init(seed)))  # fmt: skip
        if (T := traces(negative)).min() < 0:
            break
    assert T.min() < 0
    for m in measure_risk(negative, [MinimumSharpness(), WeightCurvatureIndex()], 0).measurements:
        assert (m.status, np.isnan(m.value)) == ("indefinite", True)
        assert "negative trace" in m.message
    silent = risk.at(np.zeros(risk.size))
    found = list(measure_risk(silent, [MinimumSharpness(), WeightCurvatureIndex(), ScaledEigenvalue()], 0).measurements)
    assert [m.value for m in found] == [0, 0, 0]
    assert [m.status for m in found] == ["ok"] * 3


def test_what_is_refused() -> None:
    curved = Convolutional(layers=(ConvolutionLayer(),), channels=2, activation="erf")
    examples, parameters = data(3, 4, 4, 1), finite_network(curved, (4, 4, 1)).init(0)
    risk = EmpiricalRisk.of(curved, parameters, *examples)
    for kind in ("minimum-sharpness", "weight-curvature-index"):
        with pytest.raises(InvalidInput, match="'basis'") as refused:
            checked(risk, [measure_of(kind)])
        assert refused.value.field == "traces"
        checked(risk, [measure_of(kind, traces=2)])
    without = of_matrix(np.eye(2))
    for kind in ("minimum-sharpness", "scaled-eigenvalue"):
        with pytest.raises(InvalidInput, match="no array of weights"):
            checked(without, [measure_of(kind)])
