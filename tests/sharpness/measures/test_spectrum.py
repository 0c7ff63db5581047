import math

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import Eigenvalues, LogDeterminant, SpectralDensity
from nngp_prior.sharpness.curvature.operators import Operator, as_scipy, hessian
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures.spectrum import grid, spectral_density
from tests.sharpness.cases import dense, linear, of_matrix, random_symmetric, small, trained

SPREAD = np.concatenate([[40.0, 12.0, 3.0, -2.0], np.linspace(-0.5, 0.5, 26)])


def figures(risk, *measures, seed: int = 0):
    return measure_risk(risk, measures, seed)


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
def test_both_ends_are_those_of_the_dense_matrix(matrix: str) -> None:
    risk, eigenvalues = small(), np.linalg.eigvalsh(dense(small(), matrix))
    prefix = {"hessian": "", "ggn": "ggn_", "empirical-fisher": "empirical_fisher_"}[matrix]
    report = figures(risk, Eigenvalues(matrix=matrix, largest=3, smallest=2))
    found = [report[prefix + name] for name in ("lambda_max", "lambda_max_2", "lambda_max_3")]
    found += [report[prefix + name] for name in ("lambda_min", "lambda_min_2")]
    expected = [*eigenvalues[:-4:-1], *eigenvalues[:2]]
    largest = np.abs(eigenvalues).max()
    np.testing.assert_allclose([each.value for each in found], expected, atol=1e-6 * largest)
    assert {each.status for each in found} == {"ok"}
    assert all(each.diagnostics["residual"] <= 1e-6 * largest for each in found)
    assert all(each.gradients - 2 * each.diagnostics["steps"] in (0, 1) for each in found)


def test_scipy_eigsh_agrees_on_the_same_operator() -> None:
    risk = small()
    report = figures(risk, Eigenvalues(largest=2))
    expected = np.sort(eigsh(as_scipy(hessian(risk)), k=2, which="LA", return_eigenvectors=False))
    assert report["lambda_max"].value == pytest.approx(float(expected[1]), rel=1e-6)
    assert report["lambda_max_2"].value == pytest.approx(float(expected[0]), rel=1e-5)


def test_few_steps_suffice_for_a_trained_network() -> None:
    risk = trained()
    report = figures(risk, Eigenvalues(tolerance=1e-3))
    exact = np.linalg.eigvalsh(dense(risk))
    assert report["lambda_max"].value == pytest.approx(float(exact[-1]), rel=1e-3)
    assert report["lambda_min"].value == pytest.approx(float(exact[0]), abs=1e-3 * exact[-1])
    assert report["lambda_max"].diagnostics["steps"] < 50


def test_an_eigenvalue_near_zero_is_not_taken_for_a_small_one_at_the_end() -> None:
    """Zero to a thousandth of the largest are all but two."""
    eigenvalues = np.concatenate([np.full(300, 1e-6), [20.0, -0.2]])
    report = figures(of_matrix(random_symmetric(eigenvalues)), Eigenvalues(tolerance=1e-3))
    assert report["lambda_min"].value == pytest.approx(-0.2, rel=1e-3)
    assert report["lambda_min"].status == "ok"


def test_a_leading_eigenvector_apart_from_the_mean_of_gradients_is_found() -> None:
    """f = θ·x of inputs e₁ ± 3 e₂: the mean of the gradients is e₁, an eigenvector to 2, the leading one e₂, to 18."""
    X = np.zeros((40, 300))
    X[:, 0], X[:, 1] = 1, np.tile([3, -3], 20)
    risk = linear(X, np.ones(40), np.zeros(300))
    assert measure_risk(risk, [Eigenvalues(smallest=0)], 0)["lambda_max"].value == pytest.approx(18, rel=1e-9)


def test_negative_eigenvalues_are_negative() -> None:
    report = figures(of_matrix(-random_symmetric(SPREAD)), Eigenvalues(largest=1, smallest=3))
    found = [report[name].value for name in ("lambda_min", "lambda_min_2", "lambda_min_3", "lambda_max")]
    np.testing.assert_allclose(found, [-40, -12, -3, 2], atol=4e-5)


def test_of_each_layer() -> None:
    risk, H = small(), dense(small())
    report = figures(risk, Eigenvalues(layer="each", smallest=0))
    for layer in risk.network.layers:
        start, stop = risk.network.slice_of(layer)
        expected = np.linalg.eigvalsh(H[start:stop, start:stop])[-1]
        assert report[f"lambda_max[{layer}]"].value == pytest.approx(float(expected), rel=1e-6)
    assert "lambda_min[dense 1]" not in report


def test_values_vary_between_seeds_by_the_tolerance_only() -> None:
    risk = of_matrix(random_symmetric(SPREAD))
    found = [figures(risk, Eigenvalues(tolerance=1e-3), seed=seed)["lambda_max"].value for seed in range(6)]
    assert 0 < np.ptp(found) <= 1e-3 * 40


def test_too_few_steps_are_a_status() -> None:
    eigenvalues = np.linspace(0, 1, 60)
    report = figures(of_matrix(random_symmetric(eigenvalues)), Eigenvalues(max_steps=5))
    for name in ("lambda_max", "lambda_min"):
        found = report[name]
        assert found.status == "not-converged"
        assert found.diagnostics["steps"] == 5
        assert "raise max_steps or the tolerance" in found.message
        assert np.abs(eigenvalues - found.value).min() <= found.diagnostics["residual"]


def test_a_matrix_may_have_fewer_eigenvalues_than_are_asked_for() -> None:
    report = figures(of_matrix(np.diag([3.0, -1.0, 3.0])), Eigenvalues(largest=5, smallest=0))
    found = [each.value for each in report.values()]
    np.testing.assert_allclose(found, [3, 3, -1], atol=1e-12)
    assert {each.status for each in report.values()} == {"ok"}
    zeros = figures(of_matrix(np.zeros((4, 4))))
    assert not zeros.measurements
    zero = figures(of_matrix(np.zeros((4, 4))), Eigenvalues())["lambda_max"]
    assert (zero.value, zero.status) == (0, "ok")


def test_quadratures_side_by_side_are_those_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a rank so low that Krylov spaces are exhausted."""
    risk = linear(np.random.default_rng(0).standard_normal((4, 30)), np.ones(4), np.zeros(30))
    specification = SpectralDensity(probes=5, steps=12)
    monkeypatch.setattr(Operator, "vectors_at_once", 3)
    together = spectral_density(risk, specification)
    monkeypatch.setattr(Operator, "vectors_at_once", 1)
    alone = spectral_density(risk, specification)
    # Krylov spaces of H's image and the part of the first vector outside of it; weights beyond them would be 0
    assert [len(nodes) for nodes in together.nodes] == [5] * 5
    assert together.products == alone.products == 5 * 5
    for one, other in zip(together.nodes + together.weights, alone.nodes + alone.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_the_log_determinant_over_a_basis_is_exact() -> None:
    risk = small("mse")
    report = figures(risk, LogDeterminant(matrix="ggn", probes="basis", damping=0.1))
    expected = np.linalg.slogdet(dense(risk, "ggn") + 0.1 * np.eye(risk.size))[1]
    found = report["ggn_logdet"]
    assert found.value == pytest.approx(float(expected), rel=1e-8)
    assert found.stderr is None
    assert found.options["damping"] == 0.1


def test_log_determinant_of_random_vectors_is_within_its_error() -> None:
    A = random_symmetric(SPREAD)
    expected = np.sum(np.log(SPREAD + 2.5))
    errors = []
    for seed in range(6):
        found = figures(of_matrix(A), LogDeterminant(probes=8, damping=2.5), seed=seed)["logdet"]
        assert found.stderr is not None
        errors.append((found.value - expected) / found.stderr)
    assert np.abs(errors).max() < 6  # Student's t of 7 degrees of freedom
    assert 0.4 < np.sqrt(np.mean(np.square(errors))) < 2.2


def test_a_matrix_that_is_not_positive_definite_has_none() -> None:
    found = figures(of_matrix(random_symmetric(SPREAD)), LogDeterminant(damping=1))["logdet"]
    assert found.status == "indefinite"
    assert math.isnan(found.value)
    assert "at most -1" in found.message


def test_the_density_over_a_basis_is_that_of_the_eigenvalues() -> None:
    risk = of_matrix(random_symmetric(SPREAD))
    spectrum = spectral_density(risk, SpectralDensity(probes="basis", steps=30), tolerance=0.0)
    at, deviation = np.linspace(-5, 45, 4001), 0.4
    found = spectrum.density(at, deviation)
    gaussians = np.exp(-(((at[:, None] - SPREAD) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(found, gaussians.mean(axis=1), atol=1e-9)
    assert np.trapezoid(found, at) == pytest.approx(1, abs=1e-9)
    assert (spectrum.smallest, spectrum.largest) == pytest.approx((-2, 40), abs=1e-9)
    mean, error = spectrum.mean(lambda nodes: nodes)
    assert mean == pytest.approx(SPREAD.mean())
    assert error is None


def test_masses_and_curve_are_in_the_report() -> None:
    risk = of_matrix(random_symmetric(SPREAD))
    report = figures(risk, SpectralDensity(probes="basis", negligible=0.02, points=200))
    assert report["negative_mass"].value == pytest.approx(1 / 30)
    assert report["zero_mass"].value == pytest.approx(26 / 30)
    curve = report["negative_mass"].diagnostics
    at = np.array(curve["eigenvalues"])
    assert np.trapezoid(curve["density"], at) == pytest.approx(1, abs=1e-4)
    assert at[0] < curve["smallest_node"] < curve["largest_node"] < at[-1]


def test_random_vectors_give_the_density_within_its_error() -> None:
    risk = of_matrix(random_symmetric(SPREAD))
    report = figures(risk, SpectralDensity(probes=30, negligible=0.02))
    for name, exact in (("negative_mass", 1 / 30), ("zero_mass", 26 / 30)):
        assert abs(report[name].value - exact) < 4 * report[name].stderr
    zeros = figures(of_matrix(np.zeros((4, 4))), SpectralDensity())
    assert (zeros["negative_mass"].value, zeros["zero_mass"].value) == (0, 1)


def test_steps_end_once_the_density_has_converged() -> None:
    """A few outliers and a narrow bulk, as of a network, converge long before a uniform distribution."""
    rng = np.random.default_rng(0)
    outliers = of_matrix(random_symmetric(np.concatenate([[40.0, 17.0, -3.0], 0.1 * rng.standard_normal(297)])))
    specification = SpectralDensity(probes=4, steps=80)
    early, whole = spectral_density(outliers, specification), spectral_density(outliers, specification, tolerance=0.0)
    assert early.products < whole.products / 2 == 160
    at, deviation = grid(whole, specification)
    density = whole.density(at, deviation)
    np.testing.assert_allclose(early.density(at, deviation), density, atol=1e-6 * density.max())
    uniform = of_matrix(random_symmetric(np.linspace(0, 1, 300)))
    assert spectral_density(uniform, specification).products == 320


@pytest.mark.parametrize("steps", [9, pytest.param(33, marks=pytest.mark.slow)])
def test_errors_cover_what_further_steps_would_change(steps: int) -> None:
    """Of the part of a continuum's eigenvalues below a threshold, which few nodes find only roughly."""
    eigenvalues = np.concatenate([[30.0, 12.0], np.random.default_rng(1).exponential(1, 198) - 0.5])
    found = spectral_density(of_matrix(random_symmetric(eigenvalues)), SpectralDensity(probes=40, steps=steps))
    mean, error = found.mean(lambda nodes: (nodes < -0.1).astype(float))
    assert error is not None
    assert abs(mean - (eigenvalues < -0.1).mean()) < 3 * error


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^layer: got 'dense 9'"):
        spectral_density(small(), SpectralDensity(layer="dense 9"))
