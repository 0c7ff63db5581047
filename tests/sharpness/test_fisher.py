import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.schemas.sharpness import FisherRaoNorm, FisherTrace, Trace
from nngp_prior.sharpness.measuring import measure_problem
from nngp_prior.sharpness.networks import finite_network
from nngp_prior.sharpness.problem import Problem
from tests.sharpness.cases import data, dense, images, relative, small, trained


@pytest.mark.parametrize(("fisher", "matrix"), [("model", "ggn"), ("empirical", "empirical-fisher")])
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_they_are_those_of_the_dense_matrices(fisher: str, matrix: str, loss: str) -> None:
    problem, F = small(loss), dense(small(loss), matrix)
    theta, prefix = np.asarray(problem.theta), "empirical_" if fisher == "empirical" else ""
    report = measure_problem(
        problem, [FisherTrace(fisher=fisher), FisherTrace(fisher=fisher, layer="each"), FisherRaoNorm(fisher=fisher)], 0
    )
    assert relative(report[f"{prefix}fisher_trace"].value, np.trace(F)) < 1e-10
    assert relative(report[f"{prefix}fisher_rao_norm"].value, theta @ F @ theta) < 1e-10
    for layer in problem.network.layers:
        start, stop = problem.network.slice_of(layer)
        assert relative(report[f"{prefix}fisher_trace[{layer}]"].value, np.trace(F[start:stop, start:stop])) < 1e-10


def test_the_model_fisher_is_the_covariance_of_gradients_with_labels_drawn_from_the_model() -> None:
    """By its definition, E_x E_{y|x}[∇ℓ ∇ℓᵀ], not by the loss's curvature."""
    problem = small()
    f = np.asarray(problem.all_outputs(problem.theta))
    p = 1 / (1 + np.exp(-f))
    of_labels = []
    for label in (-1, 1):
        given = Problem.of(
            problem.network.architecture,
            problem.unravel(np.asarray(problem.theta)),
            (np.asarray(problem.X), np.full(problem.n, label)),
        )
        of_labels.append(np.stack([np.asarray(given.subset([i]).gradient(given.theta)) for i in range(problem.n)]))
    F = sum(
        (weight[:, None] * G).T @ G / problem.n for weight, G in zip((1 - p, p), of_labels, strict=True)
    )  # fmt: skip
    np.testing.assert_allclose(F, dense(problem, "ggn"), atol=1e-12)


@pytest.mark.parametrize("problem", [trained, images, lambda: small("mse", "relu")], ids=["dense", "images", "mse"])
def test_of_a_piecewise_linear_network_the_hessian_has_the_same_trace_and_the_same_blocks(problem) -> None:
    problem = problem()
    report = measure_problem(problem, [FisherTrace(), FisherTrace(layer="each")], 0)
    H, G = dense(problem), dense(problem, "ggn")
    assert relative(report["fisher_trace"].value, np.trace(H)) < 1e-10
    for layer in problem.network.layers:
        block = slice(*problem.network.slice_of(layer))
        np.testing.assert_allclose(H[block, block], G[block, block], atol=1e-12 * np.abs(H).max())
        assert relative(report[f"fisher_trace[{layer}]"].value, np.trace(H[block, block])) < 1e-10
    assert np.abs(H - G).max() > 1e-3 * np.abs(H).max()


def test_neither_the_empirical_one_has_nor_other_networks_have() -> None:
    smooth = small()
    assert relative(np.trace(dense(smooth, "ggn")), np.trace(dense(smooth))) > 1e-3
    report = measure_problem(trained(), [FisherTrace(fisher="empirical"), FisherTrace()], 0)
    assert relative(report["empirical_fisher_trace"].value, report["fisher_trace"].value) > 0.1


def test_with_layer_norm_they_differ() -> None:
    architecture = FullyConnected(depth=1, width=4, layer_norm=True)
    parameters = finite_network(architecture, (3,)).init(0)
    problem = Problem.of(architecture, parameters, data(6, 3))
    report = measure_problem(problem, [FisherTrace(), Trace(probes="basis")], 0)
    assert relative(report["fisher_trace"].value, report["trace"].value) > 1e-3
