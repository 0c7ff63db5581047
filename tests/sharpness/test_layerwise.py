"""Measures made of layers' norms and traces, against dense Hessians."""

import numpy as np
import pytest
from scipy.optimize import minimize

from nngp_prior import FullyConnected
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import Convolutional, ConvolutionLayer
from nngp_prior.schemas.sharpness import MinimumSharpness, ScaledEigenvalue, WeightCurvatureIndex
from nngp_prior.sharpness import Problem, measure
from nngp_prior.sharpness.measuring import measure_problem
from nngp_prior.sharpness.networks import finite_network
from tests.sharpness.cases import data, dense, images, of_matrix, small, trained


def weights(problem: Problem) -> list[slice]:
    return [slice(block.start, block.stop) for block in problem.blocks if block.role == "weight"]


def traces(problem: Problem) -> np.ndarray:
    H = dense(problem)
    return np.array([np.trace(H[part, part]) for part in weights(problem)])


def norms(problem: Problem) -> np.ndarray:
    return np.array([np.linalg.norm(np.asarray(problem.theta)[part]) for part in weights(problem)])


PROBLEMS = {
    "erf": small,
    "relu": lambda: small("mse", "relu"),
    "images": images,
}
EXACT = ["exact", "basis"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_they_are_as_defined(name: str) -> None:
    problem = PROBLEMS[name]()
    T, N = traces(problem), norms(problem)
    asked = [MinimumSharpness(), MinimumSharpness(traces="basis"), WeightCurvatureIndex()]
    exact, basis, index = measure_problem(problem, asked, 0)
    assert list(exact.diagnostics["traces"].values()) == pytest.approx(T, rel=1e-9)
    assert list(basis.diagnostics["traces"].values()) == pytest.approx(T, rel=1e-9)
    assert list(exact.diagnostics["norms"].values()) == pytest.approx(N, rel=1e-12)
    if (T < 0).any():
        assert exact.status == index.status == "indefinite"
        return
    assert exact.value == pytest.approx(len(T) * np.prod(T) ** (1 / len(T)), rel=1e-9)
    assert basis.value == pytest.approx(exact.value, rel=1e-9)
    assert index.value == pytest.approx(np.sum(N * np.sqrt(T)), rel=1e-9)
    assert exact.stderr is basis.stderr is index.stderr is None
