import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.schemas.measures.curvature import FisherRaoNorm, FisherTrace, Trace
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import finite_network
from tests.sharpness.cases import data, dense, images, relative, small, trained


@pytest.mark.parametrize(("fisher", "matrix"), [("model", "ggn"), ("empirical", "empirical-fisher")])
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_they_are_those_of_the_dense_matrices(fisher: str, matrix: str, loss: str) -> None:
    risk, F = small(loss), dense(small(loss), matrix)
    theta, prefix = np.asarray(risk.theta), "empirical_" if fisher == "empirical" else ""
    report = measure_risk(
        risk, [FisherTrace(fisher=fisher), FisherTrace(fisher=fisher, layer="each"), FisherRaoNorm(fisher=fisher)], 0
    )
    assert relative(report[f"{prefix}fisher_trace"].value, np.trace(F)) < 1e-10
    assert relative(report[f"{prefix}fisher_rao_norm"].value, theta @ F @ theta) < 1e-10
    assert {each.gradients for each in report.values()} == {1}
    for layer in risk.network.layers:
        start, stop = risk.network.slice_of(layer)
        assert relative(report[f"{prefix}fisher_trace[{layer}]"].value, np.trace(F[start:stop, start:stop])) < 1e-10


def test_the_model_fisher_is_the_covariance_of_gradients_with_labels_drawn_from_the_model() -> None:
    """By its definition, E_x E_{y|x}[∇ℓ ∇ℓᵀ], not by the loss's curvature."""
    risk = small()
    f = np.asarray(risk.all_outputs(risk.theta))
    p = 1 / (1 + np.exp(-f))
    of_labels = []
    for label in (-1, 1):
        given = EmpiricalRisk.of(
            risk.network.architecture,
            risk.unravel(np.asarray(risk.theta)),
            np.asarray(risk.X),
            np.full(risk.n, label),
        )
        of_labels.append(np.stack([np.asarray(given.subset([i]).gradient(given.theta)) for i in range(risk.n)]))
    F = sum(
        (weight[:, None] * G).T @ G / risk.n for weight, G in zip((1 - p, p), of_labels, strict=True)
    )  # fmt: skip
    np.testing.assert_allclose(F, dense(risk, "ggn"), atol=1e-12)


@pytest.mark.parametrize("risk", [trained, images], ids=["dense", "images"])
def test_of_a_piecewise_linear_network_the_hessian_has_the_same_trace_and_the_same_blocks(risk) -> None:
    risk = risk()
    report = measure_risk(risk, [FisherTrace(), FisherTrace(layer="each")], 0)
    H, G = dense(risk), dense(risk, "ggn")
    assert relative(report["fisher_trace"].value, np.trace(H)) < 1e-10
    for layer in risk.network.layers:
        block = slice(*risk.network.slice_of(layer))
        np.testing.assert_allclose(H[block, block], G[block, block], atol=1e-12 * np.abs(H).max())
        assert relative(report[f"fisher_trace[{layer}]"].value, np.trace(H[block, block])) < 1e-10
    assert np.abs(H - G).max() > 1e-3 * np.abs(H).max()


def test_neither_the_empirical_one_has_nor_other_networks_have() -> None:
    smooth = small()
    assert relative(np.trace(dense(smooth, "ggn")), np.trace(dense(smooth))) > 1e-3
    report = measure_risk(trained(), [FisherTrace(fisher="empirical"), FisherTrace()], 0)
    assert relative(report["empirical_fisher_trace"].value, report["fisher_trace"].value) > 0.1


def test_with_layer_norm_they_differ() -> None:
    architecture = FullyConnected(depth=1, width=4, layer_norm=True)
    parameters = finite_network(architecture, (3,)).init(0)
    risk = EmpiricalRisk.of(architecture, parameters, *data(6, 3))
    report = measure_risk(risk, [FisherTrace(), Trace(probes="basis")], 0)
    assert relative(report["fisher_trace"].value, report["trace"].value) > 1e-3
