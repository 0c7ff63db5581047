import jax
import numpy as np
import pytest
from matfree import decomp

from nngp_prior.sharpness.curvature.lanczos import Lanczos, step_together
from nngp_prior.sharpness.curvature.operators import operator_of
from nngp_prior.sharpness.risk.networks import high_precision
from tests.sharpness.cases import of_matrix, random_symmetric, small


def run(A: np.ndarray, steps: int, start: np.ndarray | None = None) -> Lanczos:
    rng = np.random.default_rng(5)
    operator = operator_of(of_matrix(A), "hessian")
    lanczos = Lanczos.from_vector(operator, rng.standard_normal(len(A)) if start is None else start, rng)
    for _ in range(steps):
        lanczos.step()
    lanczos.complete()
    return lanczos


def test_the_problem_made_of_a_matrix_has_it_as_its_hessian() -> None:
    A = random_symmetric(np.linspace(-1, 2, 6))
    np.testing.assert_allclose(operator_of(of_matrix(A), "hessian")(np.eye(6)[2]), A[2], atol=1e-14)


def test_it_gives_matfrees_tridiagonal_matrix() -> None:
    """Of a network's Hessian, over more vectors than there is room for at first."""
    risk, steps = small(), 40
    operator = operator_of(risk, "hessian")
    start = np.random.default_rng(0).standard_normal(risk.size)
    lanczos = Lanczos.from_vector(operator, start, np.random.default_rng(1))
    for _ in range(steps):
        lanczos.step()
    lanczos.complete()
    values, residuals = lanczos.ritz()
    weights = lanczos.quadrature().rule()[1]
    with high_precision():
        found = jax.jit(lambda v: decomp.tridiag_sym(steps)(operator.product, v))(start)
    T = np.asarray(found.J_small)
    expected, S = np.linalg.eigh(T)
    beta = float(np.linalg.norm(found.residual))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(values, expected, atol=1e-10 * scale)
    np.testing.assert_allclose(weights, S[0] ** 2, atol=1e-9)
    np.testing.assert_allclose(residuals, beta * np.abs(S[-1]), atol=1e-8 * scale)


def test_residuals_bound_the_distance_to_an_eigenvalue() -> None:
    eigenvalues = np.sort(np.random.default_rng(2).standard_normal(30))
    lanczos = run(random_symmetric(eigenvalues), 12)
    for value, residual in zip(*lanczos.ritz(), strict=True):
        assert np.abs(eigenvalues - value).min() <= residual + 1e-12


def test_while_a_product_is_half_done_residuals_are_estimated_from_above() -> None:
    eigenvalues = np.concatenate([np.linspace(-1, 1, 40), [6.0, 9.0]])
    rng = np.random.default_rng(3)
    lanczos = Lanczos.from_vector(
        operator_of(of_matrix(random_symmetric(eigenvalues)), "hessian"), rng.standard_normal(42), rng
    )
    for step in range(20):
        lanczos.step()
        values, estimates = lanczos.ritz()
        if step == 0:
            assert estimates[0] == np.inf
        lanczos.complete()
        again, residuals = lanczos.ritz()
        np.testing.assert_array_equal(values, again)
        if step > 1:  # from then on the spread is known well enough
            assert np.all(residuals <= estimates)


def test_several_are_what_each_is_alone() -> None:
    """Also where the Krylov space of one is exhausted before the others'."""
    A = random_symmetric(np.array([5.0, 2.0, 1.0, 0.5, -1.0, -3.0]))
    operator = operator_of(of_matrix(A), "hessian")
    of_two = np.linalg.eigh(A)[1][:, [0, 3]].sum(axis=1)
    starts = [np.ones(6), of_two, np.arange(6.0)]
    alone, together = ([Lanczos.from_vector(operator, v, np.random.default_rng(7)) for v in starts] for _ in range(2))
    for _ in range(4):
        for method in alone:
            method.step()
        step_together(together)
    for one, other in zip(alone, together, strict=True):
        for found, expected in zip(one.ritz(), other.ritz(), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)
    assert [method.exhausted for method in together] == [False, True, False]


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_two_steps_in_one_function_are_two_steps(matrix: str, scale: float) -> None:
    """Also where the first is an eigenvector, so that the second is another than the function went on with."""
    risk = small().subset(range(6)).at(scale * np.asarray(small().theta))
    operator, random = operator_of(risk, matrix), np.random.default_rng(4).random(risk.size, np.float32) - 0.5
    if not scale:
        random = np.eye(risk.size, dtype=np.float32)[-1]  # as the sum of gradients: the output's bias
    assert operator.has_formulas
    at_once = Lanczos.start_vector(operator, random, np.random.default_rng(7))
    one_by_one = Lanczos.from_vector(operator, operator.start_vector(random), np.random.default_rng(7))
    one_by_one.step()
    one_by_one.step()
    for _ in range(3):
        assert at_once.steps == one_by_one.steps
        assert at_once.gradients == one_by_one.gradients
        for found, expected in zip(at_once.ritz(), one_by_one.ritz(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        at_once.step()
        one_by_one.step()
    assert at_once.exhausted == (scale == 0)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_an_exhausted_krylov_space_goes_on_with_a_new_vector(rank: int) -> None:
    eigenvalues = np.concatenate([np.zeros(9 - rank), [5.0, -2.0, 7.0][:rank]])
    lanczos = run(random_symmetric(eigenvalues), 9)
    assert lanczos.exhausted
    assert lanczos.whole
    values, residuals = lanczos.ritz()
    np.testing.assert_allclose(values, np.sort(eigenvalues), atol=1e-12)
    np.testing.assert_allclose(residuals, 0, atol=1e-12)


def test_multiple_eigenvalues_come_once_they_are_asked_for() -> None:
    eigenvalues = np.repeat([1.0, 4.0, -3.0], [4, 3, 2])
    lanczos = run(random_symmetric(eigenvalues), 9)
    np.testing.assert_allclose(lanczos.ritz()[0], np.sort(eigenvalues), atol=1e-10)


def test_an_eigenvector_as_the_first_vector_has_all_the_weight() -> None:
    lanczos = run(np.diag([3.0, 1.0, 2.0]), 3, start=np.array([0.0, 2.0, 0.0]))
    values, weights = lanczos.quadrature().rule()
    np.testing.assert_allclose(values, [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(weights, [1, 0, 0], atol=1e-12)


def test_a_product_that_is_not_finite_ends_it() -> None:
    lanczos = run(np.diag([1e308, -1e308]), 1)
    assert not lanczos.finite
