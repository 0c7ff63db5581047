"""What of a kernel matrix serves all its labellings: checks, scaling, duplicates, one factorisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.linalg import cholesky, pivoted_cholesky
from nngp_prior.probability.checks import INDEFINITENESS_ALLOWED, as_matrix, check_correlations, check_entries
from nngp_prior.probability.cost import require_memory
from nngp_prior.schemas.estimator import Estimator

_ROUNDING_OF_FLOAT32 = 1e-3  # more is no rounding of a covariance matrix
_TIED = 64 * np.finfo(np.float64).eps  # 1 - |correlation| of inputs whose labels determine each other
# Conditional variances below this are worth a second factorisation, which looks for duplicates and pivots. It is also
# where float32 rounding of conditional means begins to be felt in the weights of particles.
SMALL_VARIANCE = 1e-6
_ROWS = 512  # of K looked at at a time


@dataclass(frozen=True)
class PreparedKernel:
    """A kernel scaled to unit diagonal, freed of duplicates and factored.

    log P does not change when f_i is multiplied by a positive number, hence everything is computed on correlations.
    Inputs with correlation ±1 have labels that determine each other; one of each class is kept.

    Attributes:
        K: the user's matrix, not copied.
        kept: indices of the inputs kept, in the order of visits.
        scale: 1/standard deviation of each input kept, noise included.
        added: c where the estimate is of K + cI, else 0.
        L: lower trapezoidal factor of the correlations of the inputs kept.
        group: for each input, the place in ``kept`` of the one it is tied to.
        sign: ±1 for each input: its label is that sign times the kept one's.
    """

    K: Float[np.ndarray, "n n"]
    kept: Integer[np.ndarray, " m"]
    scale: Float[np.ndarray, " m"]
    added: float
    L: Float[np.ndarray, "m rank"]
    group: Integer[np.ndarray, " n"]
    sign: Float[np.ndarray, " n"]

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.K)

    @property
    def m(self) -> int:
        """Number of inputs kept."""
        return len(self.kept)

    @property
    def rank(self) -> int:
        """Numerical rank of K."""
        return self.L.shape[1]

    @property
    def smallest_conditional_variance(self) -> float:
        """Of any input given those visited before, as a part of its variance."""
        return float(np.min(np.square(np.diagonal(self.L))))

    def note(self) -> str:
        """What the estimate is of, where that is not K itself."""
        return f"estimate of K + cI with c = {self.added:g}" if self.added else ""

    def reduce(self, labels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"] | None:
        """The labels of the inputs kept, in the order of visits.

        Args:
            labels: ±1.

        Returns:
            None if tied inputs have contradictory labels.
        """
        return None if np.any(self._contradicted(labels)) else labels[self.kept]

    def contradiction(self, labels: Float[np.ndarray, " n"]) -> tuple[int, int]:
        """Two tied inputs whose labels contradict each other; there must be some."""
        second = int(np.argmax(self._contradicted(labels)))
        return int(self.kept[self.group[second]]), second

    def _contradicted(self, labels: np.ndarray) -> np.ndarray:
        """Which inputs have another label than the one kept for them implies."""
        return labels != self.sign * labels[self.kept][self.group]

    def signed_correlation(
        self, labels: Float[np.ndarray, " m"], dtype: type[np.floating] = np.float64, whole: bool = False
    ) -> Float[np.ndarray, "m m"]:
        """K' = diag(y) C diag(y) of the inputs kept, in Fortran order; zero above the diagonal unless ``whole``."""
        return _correlation(self.K, self.kept, self.scale * labels, dtype, whole)


def prepare(K: ArrayLike, estimator: Estimator) -> PreparedKernel:
    """Check a kernel matrix and factor it once for all labellings.

    Args:
        K: (n, n) covariance matrix.
        estimator: its noise variance and jitter are added to the diagonal; its memory is estimated.

    Returns:
        the prepared kernel.

    Raises:
        InvalidKernel: not a symmetric matrix of finite numbers with positive diagonal, or not positive semi-definite.
        ResourceLimit: the estimator's memory is not free.
    """
    K = as_matrix(K)
    require_memory(len(K), estimator)
    added = estimator.noise_variance + estimator.jitter * float(np.mean(K.diagonal()))
    check_entries(K, added)
    n = len(K)
    scale = 1 / np.sqrt(K.diagonal() + added)
    everything = np.arange(n)
    L = cholesky(_correlation(K, everything, scale))
    if L is not None and np.square(L.diagonal()).min() > SMALL_VARIANCE:
        return PreparedKernel(K, everything, scale, added, L, everything, np.ones(n))
    del L
    return _prepare_singular(K, scale, added)


def _prepare_singular(K: np.ndarray, scale: np.ndarray, added: float) -> PreparedKernel:
    """The general case: tied inputs merged, the largest conditional variance visited next, a rank below n."""
    check_correlations(K, scale)
    first, sign = _tied_to(K, scale)
    kept = np.flatnonzero(first == np.arange(len(K)))
    factor = pivoted_cholesky(_correlation(K, kept, scale[kept], whole=True))
    if factor.residual > INDEFINITENESS_ALLOWED:
        remedy = "Check how it was computed."
        if factor.residual < _ROUNDING_OF_FLOAT32:
            remedy += f" If in float32, pass jitter={max(1e-6, 10 * factor.residual):.0e}."
        raise InvalidKernel(
            "K", f"is not positive semi-definite (relative to its diagonal, by {factor.residual:.1e})", remedy
        )
    kept = kept[factor.order]
    place = np.empty(len(K), dtype=np.intp)
    place[kept] = np.arange(len(kept))
    return PreparedKernel(K, kept, scale[kept], added, factor.L, place[first], sign)


def _row_blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _correlation(
    K: np.ndarray, kept: np.ndarray, scale: np.ndarray, dtype: type[np.floating] = np.float64, whole: bool = False
) -> np.ndarray:
    """diag(scale) K diag(scale) of the inputs kept, with a unit diagonal."""
    m = len(kept)
    C = np.zeros((m, m), dtype=dtype, order="F")
    ordered = np.array_equal(kept, np.arange(len(K)))
    for columns in _row_blocks(m):
        # K is symmetric: its rows are read, the columns of C written, both contiguous.
        below = slice(0 if whole else columns.start, m)
        rows = K[columns, below] if ordered else K[kept[columns]][:, kept[below]]
        part = C[below, columns]
        np.multiply(rows.T, scale[below, None], out=part, casting="same_kind")
        part *= scale[columns].astype(dtype)
    np.fill_diagonal(C, 1.0)  # noise included; exact, so that rounding does not decide the order of visits
    return C


def _tied_to(K: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each input the first one with correlation ±1 to it (maybe itself), and the sign of that correlation.

    Noise on the diagonal is in ``scale``, so that inputs with noise are tied to none but themselves.

    Returns:
        indices and signs.
    """
    n = len(K)
    first, sign = np.arange(n), np.ones(n)
    for rows in _row_blocks(n):
        earlier = np.abs(K[rows, : rows.stop]) * (scale[rows, None] * scale[: rows.stop]) >= 1 - _TIED
        earlier &= np.arange(rows.stop) < np.arange(rows.start, rows.stop)[:, None]
        tied = np.flatnonzero(earlier.any(axis=1))
        if len(tied):
            partner = earlier[tied].argmax(axis=1)
            inputs = tied + rows.start
            first[inputs] = partner
            sign[inputs] = np.sign(K[inputs, partner])
    while np.any(first[first] != first):  # rounding can leave chains
        sign, first = sign * sign[first], first[first]
    return first, sign
