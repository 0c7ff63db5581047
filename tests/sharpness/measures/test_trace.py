import numpy as np
import pytest

from nngp_prior.schemas.measures.curvature import Frobenius, Trace
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures.trace import mean_and_error, probe_vectors
from tests.sharpness.cases import dense, of_matrix, random_symmetric, relative, small


def figures(risk, *measures, seed: int = 0):
    return measure_risk(risk, measures, seed)


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
def test_over_a_basis_they_are_exact(matrix: str) -> None:
    risk, A = small(), dense(small(), matrix)
    report = figures(risk, Trace(probes="basis", matrix=matrix), Frobenius(probes="basis", matrix=matrix))
    trace, frobenius = report.measurements
    assert relative(trace.value, np.trace(A)) < 1e-10
    assert relative(frobenius.value, np.linalg.norm(A)) < 1e-10
    assert trace.stderr is frobenius.stderr is None
    assert trace.gradients == 2 * risk.size


def test_of_each_layer() -> None:
    risk, H = small(), dense(small())
    report = figures(risk, Trace(probes="basis", layer="each"), Frobenius(probes="basis", layer="dense 2"))
    for layer in risk.network.layers:
        start, stop = risk.network.slice_of(layer)
        assert relative(report[f"trace[{layer}]"].value, np.trace(H[start:stop, start:stop])) < 1e-10
    assert relative(report["frobenius[dense 2]"].value, np.linalg.norm(H[25:55, 25:55])) < 1e-10
    assert report["trace[dense 1]"].gradients == 2 * risk.size


def test_hutchinsons_variance_is_that_of_random_signs() -> None:
    """Var = 2 (‖H‖_F² - Σ H_ii²); the sample variance of m values has a relative error of about √((κ - 1)/m)."""
    A = random_symmetric(np.array([9.0, 4.0, -3.0, 1.0, 0.5, -0.2, 0.1, 0.0]))
    V = np.array(list(probe_vectors(8, 4000, seed=1)))
    assert set(np.unique(V)) == {-1, 1}
    values = np.einsum("ri,ij,rj->r", V, A, V)
    expected = 2 * (np.sum(A**2) - np.sum(np.diag(A) ** 2))
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    assert abs(values.var() / expected - 1) < 4 * np.sqrt((kurtosis - 1) / len(values))
    assert abs(values.mean() - np.trace(A)) < 4 * np.sqrt(expected / len(values))


def test_the_measure_is_the_mean_over_these_vectors() -> None:
    A = random_symmetric(np.array([9.0, 4.0, -3.0, 1.0, 0.5, -0.2, 0.1, 0.0]))
    report = figures(of_matrix(A), Trace(method="hutchinson", probes=50), Frobenius(probes=50))
    for figure, exact in (("trace", np.trace(A)), ("frobenius", np.linalg.norm(A))):
        assert abs(report[figure].value - exact) < 4 * report[figure].stderr
    expected = np.sqrt(2 * (np.sum(A**2) - np.sum(np.diag(A) ** 2)) / 50)
    assert report["trace"].stderr == pytest.approx(expected, rel=0.4)


def test_standard_errors_are_calibrated() -> None:
    """Over many seeds, errors in standard errors have a root mean square near 1."""
    A = random_symmetric(np.linspace(-1, 3, 12))
    standardised = {"trace": [], "frobenius": []}
    for seed in range(60):
        V = np.array(list(probe_vectors(12, 40, seed)))
        for name, values, exact in (
            ("trace", np.einsum("ri,ij,rj->r", V, A, V), np.trace(A)),
            ("frobenius", np.sum((V @ A) ** 2, axis=1), np.sum(A**2)),
        ):
            mean, stderr = mean_and_error(list(values), len(V))
            assert stderr is not None
            standardised[name].append((mean - exact) / stderr)
    for errors in standardised.values():
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1, abs=4 / np.sqrt(2 * 60))


def test_more_probes_add_to_those_there_are_and_seeds_differ() -> None:
    few, more = (np.array(list(probe_vectors(20, probes, seed=3))) for probes in (3, 5))
    np.testing.assert_array_equal(more[:3], few)
    assert not np.array_equal(few[0], next(iter(probe_vectors(20, 3, seed=4))))
    np.testing.assert_allclose(np.array(list(probe_vectors(4, "basis", 0))), 2 * np.eye(4))


def test_xtrace_is_near_where_few_eigenvalues_are_large() -> None:
    decaying = random_symmetric(10.0 * 0.5 ** np.arange(40))
    found = figures(of_matrix(decaying), Trace(method="xtrace", probes=20))["trace"]
    assert found.gradients == 2 * 20
    assert found.stderr is not None
    assert abs(found.value - np.trace(decaying)) < min(6 * found.stderr, 0.05)
    signs = figures(of_matrix(decaying), Trace(method="xtrace", probes=40))["trace"]
    usual = figures(of_matrix(decaying), Trace(method="hutchinson", probes=40))["trace"]
    assert signs.value == usual.value  # too few rows for XTrace


def test_a_matrix_of_zeros_has_them_without_error() -> None:
    report = figures(of_matrix(np.zeros((4, 4))), Trace(method="hutchinson", probes=3), Frobenius(probes=3))
    assert [(each.value, each.stderr, each.status) for each in report.values()] == [(0, 0, "ok")] * 2


def test_what_is_left_to_chance_is_what_gauss_newton_leaves() -> None:
    risk, H, G = small(), dense(small()), dense(small(), "ggn")
    measures = [Trace(probes=50), Trace(probes=50, layer="each"), Trace(probes=50, matrix="ggn")]
    report = figures(risk, *measures, Trace(probes=50, matrix="empirical-fisher"))
    split = report["trace"]
    assert 0 < abs(split.value - np.trace(H)) < 4 * split.stderr
    expected = np.sqrt(2 * (np.sum((H - G) ** 2) - np.sum(np.diag(H - G) ** 2)) / 50)
    assert split.stderr == pytest.approx(expected, rel=0.4)
    assert split.gradients == 1 + 2 * 2 * 50
    for layer in risk.network.layers:
        start, stop = risk.network.slice_of(layer)
        block = report[f"trace[{layer}]"]
        assert abs(block.value - np.trace(H[start:stop, start:stop])) < 4 * block.stderr + 1e-12
    for name, exact in (("ggn", G), ("empirical_fisher", dense(risk, "empirical-fisher"))):
        assert relative(report[f"{name}_trace"].value, np.trace(exact)) < 1e-10
        assert report[f"{name}_trace"].stderr is None


def test_a_piecewise_linear_network_has_its_trace_exactly() -> None:
    risk = small(activation="relu")
    report = figures(risk, Trace(), Trace(layer="dense 2"))
    assert relative(report["trace"].value, np.trace(dense(risk))) < 1e-10
    assert relative(report["trace[dense 2]"].value, np.trace(dense(risk)[25:55, 25:55])) < 1e-10
    assert report["trace"].stderr is None
    assert report["trace"].gradients == 1
