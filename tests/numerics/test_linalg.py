import numpy as np
import pytest

from nngp_prior.numerics import linalg
from nngp_prior.numerics.linalg import (
    cholesky,
    matrix_vector,
    pivoted_cholesky,
    pivoted_cholesky_in_two,
    posterior_factor,
    subtract_weighted,
    symmetric_columns,
)

_TOLERANCE = 1e-14


def _covariance(n: int, rank: int, seed: int = 0) -> np.ndarray:
    A = np.random.default_rng(seed).standard_normal((n, rank))
    return A @ A.T / rank


@pytest.mark.parametrize("rank", [1, 7, 40])
def test_pivoted_cholesky(rank: int) -> None:
    C = _covariance(40, rank)
    factor = pivoted_cholesky(np.asfortranarray(C.copy()), _TOLERANCE)
    L, order = factor.L, factor.order
    assert L.shape == (40, rank)
    np.testing.assert_allclose(L @ L.T, C[np.ix_(order, order)], atol=1e-13)
    np.testing.assert_array_equal(L, np.tril(L))
    assert np.all(np.diff(np.diagonal(L)) <= 0)


@pytest.mark.parametrize("leading", [1, 5, 20, 40])
@pytest.mark.parametrize("rank", [1, 7, 40])
def test_pivoted_cholesky_in_two(rank: int, leading: int) -> None:
    C = _covariance(40, rank)
    L, order = pivoted_cholesky_in_two(C, leading, _TOLERANCE)
    own = min(rank, leading)
    assert L.shape == (40, rank)
    np.testing.assert_allclose(L @ L.T, C[np.ix_(order, order)], atol=1e-12)
    np.testing.assert_array_equal(L, np.tril(L))
    assert sorted(order) == list(range(40))
    first = np.flatnonzero(order < leading)  # visited first as far as they are free, and first of those that are not
    assert first.tolist() == [*range(own), *range(rank, rank + leading - own)]
    np.testing.assert_array_equal(L[first, own:], 0.0)


@pytest.mark.parametrize("rank", [7, 40])
def test_posterior_factor_is_that_of_gaussian_conditioning(rank: int) -> None:
    C = _covariance(40, rank)
    L, order = pivoted_cholesky(np.asfortranarray(C.copy()), _TOLERANCE)
    C = C[np.ix_(order, order)]
    s = np.random.default_rng(1).gamma(0.3, size=40)
    factor, log_determinant = posterior_factor(L, s)
    S_root = np.sqrt(s)
    B = np.eye(40) + S_root[:, None] * C * S_root
    Sigma = C - C @ (S_root[:, None] * np.linalg.solve(B, S_root[:, None] * C))
    np.testing.assert_allclose(factor @ factor.T, Sigma, atol=1e-12)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert np.all(np.diagonal(factor) > 0)
    assert log_determinant == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_of_the_lower_triangle(dtype: type) -> None:
    rng = np.random.default_rng(2)
    A = _covariance(30, 30).astype(dtype)
    lower = np.asfortranarray(np.tril(A) + np.triu(np.full((30, 30), np.nan, dtype), 1))
    W = symmetric_columns(lower, 8, 20)
    np.testing.assert_array_equal(W, A[:, 8:20])
    c = rng.standard_normal(12)  # of both signs
    subtract_weighted(lower, W, c)
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(np.tril(lower), np.tril(A - W * c @ W.T), atol=tolerance)
    x = rng.standard_normal(12)
    np.testing.assert_allclose(matrix_vector(W, x), W @ x, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 2])
def test_posterior_factor_leaves_its_argument_alone(rank: int) -> None:
    """A single column, reversed, is itself: nothing may be written into it."""
    L = np.asfortranarray(np.tril(np.ones((3, rank))))
    before = L.copy()
    factor, _ = posterior_factor(L, np.array([1.75, 0.0, 0.5]))
    np.testing.assert_array_equal(L, before)
    if rank == 1:
        assert factor[0, 0] == pytest.approx(1 / np.sqrt(1 + 1.75 + 0.5))


@pytest.mark.parametrize("rank", [50, 30])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_panels_change_nothing(rank: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices too large for the library's threaded factorisation go through it in parts."""
    rng = np.random.default_rng(rank)
    L = np.asfortranarray(np.tril(rng.standard_normal((50, rank))))
    precision = rng.random(50)
    C = np.asfortranarray((L @ L.T + np.eye(50)).astype(dtype))
    whole, parts = [], []
    for panel, results in ((8192, whole), (7, parts)):
        for name in ("_PANEL", "_SMALL_PANEL", "_FEWEST_ROWS"):
            monkeypatch.setattr(linalg, name, panel)
        results += [*posterior_factor(L, precision, dtype), cholesky(C.copy(order="F"))]
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)
    np.testing.assert_allclose(parts[2] @ parts[2].T, L @ L.T + np.eye(50), atol=100 * tolerance)
    assert not np.triu(parts[2], 1).any()


@pytest.mark.parametrize("panel", [8192, 3])
def test_cholesky_says_what_is_not_positive_definite(panel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linalg, "_PANEL", panel)
    C = np.eye(10)
    C[7, 7] = -1.0
    assert cholesky(np.asfortranarray(C)) is None
