"""What of a kernel matrix serves all its labellings: checks, scaling, duplicates, one factorisation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Real
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.backends import Algebra, algebra, correlation, row_blocks
from nngp_prior.numerics.linalg import pivoted_cholesky, pivoted_cholesky_in_two
from nngp_prior.numerics.threads import one_thread_blas
from nngp_prior.probability.checks import INDEFINITENESS_ALLOWED, as_matrix, check_correlations, check_entries
from nngp_prior.probability.cost import backend_of, require_memory
from nngp_prior.schemas.estimator import Estimator, more_than_two

_ROUNDING_OF_FLOAT32 = 1e-3  # more is no rounding of a covariance matrix
_TIED = 64 * np.finfo(np.float64).eps  # 1 - |correlation| of inputs whose labels determine each other
# Conditional variances below this are worth a second factorisation, which looks for duplicates and pivots. It is also
# where float32 rounding of conditional means begins to be felt in the weights of particles.
SMALL_VARIANCE = 1e-6
# Inputs up to which BLAS gains nothing from a second thread, but two labellings side by side do; with one thread
# alone as well as in a batch, and in a process that may use one core, a labelling has the same value.
SMALL = 1000


@dataclass(frozen=True)
class PreparedKernel:
    """A kernel scaled to unit diagonal, freed of duplicates and factored.

    log P does not change when f_i is multiplied by a positive number, hence everything is computed on correlations.
    Inputs with correlation ±1 have labels that determine each other; one of each group is kept. With three classes or
    more that is so for correlation +1 alone. At -1 the largest function at one input is the smallest at the other,
    which forbids equal labels and no more.

    Attributes:
        K: the user's matrix, not copied.
        kept: indices of the inputs kept, in the order of visits.
        scale: 1/standard deviation of each input kept, noise included.
        added: c where the estimate is of K + cI, else 0.
        L: lower trapezoidal factor of the correlations of the inputs kept.
        group: for each input, the place in ``kept`` of the one it is tied to.
        sign: ±1 for each input: its label is that sign times the kept one's.
        opposite: for each input, one that must not have the same class; itself where there is none.
        algebra: what handles ``L`` and the matrices made of it, on the host or on a device.
    """

    K: Float[np.ndarray, "n n"]
    kept: Integer[np.ndarray, " m"]
    scale: Float[np.ndarray, " m"]
    added: float
    L: Float[Any, "m rank"]
    group: Integer[np.ndarray, " n"]
    sign: Float[np.ndarray, " n"]
    opposite: Integer[np.ndarray, " n"]
    algebra: Algebra

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.K)

    @property
    def m(self) -> int:
        """Number of constraints: of inputs kept."""
        return len(self.kept)

    @property
    def distinct_inputs(self) -> int:
        """Number of inputs kept."""
        return len(self.kept)

    @property
    def rank(self) -> int:
        """Numerical rank of K."""
        return self.L.shape[1]

    @property
    def smallest_conditional_variance(self) -> float:
        """Of any input given those visited before, as a part of its variance."""
        return float(np.min(np.square(self.algebra.diagonal(self.L))))

    def note(self) -> str:
        """What the estimate is of, where that is not K itself."""
        return f"estimate of K + cI with c = {self.added:g}" if self.added else ""

    def reduce(self, labels: Real[np.ndarray, " n"]) -> Real[np.ndarray, " m"] | None:
        """The labels of the inputs kept, in the order of visits.

        Args:
            labels: ±1, or classes if the kernel was prepared for three or more.

        Returns:
            None if tied inputs have contradictory labels.
        """
        return None if np.any(self._contradicted(labels)) else labels[self.kept]

    def contradiction(self, labels: Real[np.ndarray, " n"]) -> tuple[int, int]:
        """Two tied inputs whose labels contradict each other; there must be some."""
        second = int(np.argmax(self._contradicted(labels)))
        first = self.kept[self.group[second]]
        return int(first if first != second else self.opposite[second]), second

    def _contradicted(self, labels: np.ndarray) -> np.ndarray:
        """Which inputs have another label than the one kept for them implies, or one that an opposite one has."""
        opposite = (self.opposite != np.arange(self.n)) & (labels == labels[self.opposite])
        return (labels != self.sign * labels[self.kept][self.group]) | opposite

    def signed_correlation(
        self, labels: Float[np.ndarray, " m"], dtype: type[np.floating] = np.float64
    ) -> Float[Any, "m m"]:
        """K' = diag(y) C diag(y) of the inputs kept, the lower triangle at least."""
        return self.algebra.correlation(self.K, self.kept, self.scale * labels, dtype)


def blas_for(n: int) -> AbstractContextManager[None]:
    """The threads of BLAS for n inputs: one where they are few."""
    return one_thread_blas() if n <= SMALL else nullcontext()


def prepare(K: ArrayLike, estimator: Estimator, leading: int = 0) -> PreparedKernel:
    """Check a kernel matrix and factor it once for all labellings.

    Args:
        K: (n, n) covariance matrix.
        estimator: its noise variance and jitter are added to the diagonal; its memory is estimated.
        leading: so many inputs are visited before the others, even where K is singular, for :func:`leading_part`.

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
    own = algebra(backend_of(estimator))
    with blas_for(n):
        L = own.cholesky(own.correlation(K, everything, scale))
        if L is not None and np.square(own.diagonal(L)).min() > SMALL_VARIANCE:
            return PreparedKernel(K, everything, scale, added, L, everything, np.ones(n), everything, own)
        del L
        return _prepare_singular(K, scale, added, own, more_than_two(estimator), leading)


def leading_part(kernel: PreparedKernel, count: int) -> PreparedKernel:
    """The kernel of the first inputs alone, in the same order of visits.

    Args:
        kernel: prepared with ``leading=count``, or one whose inputs are visited in their own order.
        count: how many.

    Returns:
        a prepared kernel; its factor is a copy.
    """
    of_first = kernel.kept < count
    rows = np.flatnonzero(of_first)
    rank = int(np.sum(rows < kernel.rank))
    L = kernel.algebra.place(np.asfortranarray(kernel.algebra.to_host(kernel.L)[rows, :rank]))
    place = np.cumsum(of_first) - 1
    return PreparedKernel(
        kernel.K[:count, :count],
        kernel.kept[rows],
        kernel.scale[rows],
        kernel.added,
        L,
        place[kernel.group[:count]],
        kernel.sign[:count],
        np.arange(count),
        kernel.algebra,
    )


def _prepare_singular(
    K: np.ndarray, scale: np.ndarray, added: float, own: Algebra, many_classes: bool, leading: int
) -> PreparedKernel:
    """The general case: tied inputs merged, the largest conditional variance visited next, a rank below n."""
    check_correlations(K, scale)
    first, sign = _tied_to(K, scale, np.positive if many_classes else np.abs)
    opposite = _partner(K, scale, np.negative) if many_classes else np.arange(len(K))
    kept = np.flatnonzero(first == np.arange(len(K)))
    # On the host in any case: pivoting looks at one column after another.
    C = correlation(K, kept, scale[kept], whole=True)
    factor = pivoted_cholesky_in_two(C, int(np.sum(kept < leading))) if leading else pivoted_cholesky(C)
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
    return PreparedKernel(K, kept, scale[kept], added, own.place(factor.L), place[first], sign, opposite, own)


def _tied_to(
    K: np.ndarray, scale: np.ndarray, strength: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """For each input the first one tied to it (maybe itself), and the sign of their correlation.

    Noise on the diagonal is in ``scale``, so that inputs with noise are tied to none but themselves.

    Returns:
        indices and signs.
    """
    first = _partner(K, scale, strength)
    sign = np.where(first == np.arange(len(K)), 1.0, np.sign(K[np.arange(len(K)), first]))
    while np.any(first[first] != first):  # rounding can leave chains
        sign, first = sign * sign[first], first[first]
    return first, sign


def _partner(K: np.ndarray, scale: np.ndarray, strength: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """For each input the first one before it whose correlation has a strength of 1 to rounding, or itself."""
    n = len(K)
    first = np.arange(n)
    for rows in row_blocks(n):
        earlier = strength(K[rows, : rows.stop]) * (scale[rows, None] * scale[: rows.stop]) >= 1 - _TIED
        earlier &= np.arange(rows.stop) < np.arange(rows.start, rows.stop)[:, None]
        tied = np.flatnonzero(earlier.any(axis=1))
        first[tied + rows.start] = earlier[tied].argmax(axis=1)
    return first
