import numpy as np
import pytest

from nngp_prior.numerics import blas


@pytest.fixture(params=[np.float32, np.float64])
def whole(request: pytest.FixtureRequest) -> np.ndarray:
    """A matrix whose parts are not contiguous."""
    return np.asfortranarray(np.random.default_rng(0).standard_normal((40, 30)).astype(request.param))


def _close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, atol=1e-12 if one.dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_products_of_parts(whole: np.ndarray, trans_a: bool, trans_b: bool) -> None:
    A = whole[:7, :5] if not trans_a else whole[:5, :7]
    B = whole[10:15, 3:9] if not trans_b else whole[10:16, 3:8]
    before = whole.copy()
    C = whole[20:27, 20:26]
    expected = C - 2 * (A.T if trans_a else A) @ (B.T if trans_b else B)
    blas.gemm(-2.0, A, B, C, trans_a, trans_b)
    _close(C, expected)
    before[20:27, 20:26] = C
    np.testing.assert_array_equal(whole, before)  # nothing else was written


@pytest.mark.parametrize("trans", [False, True])
def test_symmetric_products_of_parts(whole: np.ndarray, trans: bool) -> None:
    A, C = whole[:6, :4], whole[10:14, 10:14] if trans else whole[10:16, 10:16]
    expected = np.tril(C + (A.T @ A if trans else A @ A.T)) + np.triu(C, 1)
    blas.syrk(1.0, A, C, trans)
    _close(C, expected)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("upper", [False, True])
def test_triangular_products_and_solutions(whole: np.ndarray, right: bool, trans: bool, upper: bool) -> None:
    T, B = whole[:8, :8], whole[10:18, 10:18]
    T[np.diag_indices(8)] += 5
    triangle = (np.triu if upper else np.tril)(T)
    own = triangle.T if trans else triangle
    before = B.copy()
    blas.trmm(T, B, right, trans, upper)
    _close(B, before @ own if right else own @ before)
    if not upper:
        blas.trsm(T, B, right, trans)
        _close(B, before)


def test_factors_of_parts(whole: np.ndarray) -> None:
    A = whole[:30, :6].astype(np.float64)
    C = whole[12:18, 4:10]
    C[...] = A.T @ A
    expected = np.linalg.cholesky(C)
    assert blas.potrf(C)
    _close(np.tril(C), expected)
    blas.lauum(C)
    _close(np.tril(C), np.tril(expected.T @ expected))
    C[...] = -np.eye(6)
    assert not blas.potrf(C)


def test_empty_parts_change_nothing(whole: np.ndarray) -> None:
    before = whole.copy()
    blas.gemm(1.0, whole[:3, :0], whole[:0, :4], whole[5:8, 5:9])
    blas.syrk(1.0, whole[:0, :3], whole[5:8, 5:8], trans=True)
    blas.trsm(whole[:3, :3], whole[3:6, :0])
    np.testing.assert_array_equal(whole, before)


def test_what_would_be_misread_is_refused(whole: np.ndarray) -> None:
    with pytest.raises(TypeError, match="unit stride"):
        blas.gemm(1.0, np.ascontiguousarray(whole), whole[:30].copy(order="F"), whole[:, :30])
    other = np.float32 if whole.dtype == np.float64 else np.float64
    with pytest.raises(TypeError, match="unit stride"):
        blas.syrk(1.0, whole[:4].astype(other, order="F"), whole[:4, :4])
