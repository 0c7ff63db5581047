from types import SimpleNamespace

import numpy as np
import pytest

from nngp_prior.errors import InvalidKernel, ResourceLimit
from nngp_prior.kernels import inspect
from tests.cases import equicorrelated


def with_spectrum(eigenvalues: np.ndarray) -> np.ndarray:
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(eigenvalues),) * 2))
    K = (Q * eigenvalues) @ Q.T
    return (K + K.T) / 2


def test_a_prescribed_spectrum() -> None:
    eigenvalues = 2.0 ** -np.arange(40)
    found = inspect(with_spectrum(eigenvalues))
    assert found.n == 40
    assert found.eigenvalues == pytest.approx(eigenvalues, abs=1e-14)
    assert found.trace == pytest.approx(2, abs=1e-11)
    assert found.rank == 40
    assert found.condition == pytest.approx(2**39, rel=1e-3)
    shares = eigenvalues / eigenvalues.sum()
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-10)
    assert found.symmetric
    assert not found.singular


def test_effective_ranks_that_are_known() -> None:
    """Of the identity n, of rank one 1; of k equal eigenvalues k."""
    assert inspect(np.eye(7)).effective_rank == pytest.approx(7)
    assert inspect(np.ones((600, 600))).effective_rank == pytest.approx(1, abs=1e-9)
    found = inspect(with_spectrum(np.r_[np.full(5, 3.0), np.zeros(20)]))
    assert found.effective_rank == pytest.approx(5, rel=1e-9)
    assert (found.rank, found.singular) == (5, True)


def test_inputs_that_determine_each_other() -> None:
    """Across blocks of rows, with both signs, and whatever their scale."""
    F = np.random.default_rng(0).standard_normal((1100, 1200))
    F[1050] = 3 * F[2]
    F[600] = -F[590]
    found = inspect(F @ F.T)
    assert found.tied == 2
    assert found.tied_pairs == ((2, 1050, 1), (590, 600, -1))
    assert found.singular
    assert inspect(equicorrelated(50, 1 - 1e-9)).tied == 0
    everywhere = inspect(np.ones((30, 30)))
    assert everywhere.tied == 30 * 29 // 2
    assert len(everywhere.tied_pairs) == 10


def test_asymmetry_is_measured() -> None:
    K = equicorrelated(1030, 0.5)
    K[1029, 3] += 1e-12
    assert inspect(K).asymmetry == pytest.approx(1e-12, rel=1e-3)
    assert not inspect(K).symmetric


def test_float32_is_judged_by_its_own_rounding() -> None:
    K = with_spectrum(2.0 ** -np.arange(40)).astype(np.float32)
    assert inspect(K).singular


@pytest.mark.parametrize(
    ("K", "problem"),
    [
        (np.ones((3, 4)), r"\(3, 4\)"),
        (np.ones(3), r"\(3,\)"),
        (np.eye(3) + 0j, "complex"),
        (np.full((3, 3), np.nan), r"K\[0, 0\] is nan"),
        (np.empty((0, 0)), r"\(0, 0\)"),
    ],
)
def test_what_is_no_kernel(K: np.ndarray, problem: str) -> None:
    with pytest.raises(InvalidKernel, match=problem):
        inspect(K)


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=16 * 10 * 10))
    with pytest.raises(ResourceLimit, match="at most 10 inputs"):
        inspect(np.eye(11))
