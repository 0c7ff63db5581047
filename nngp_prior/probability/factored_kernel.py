"""Kernel preprocessing shared by all labellings: checks, scaling, duplicates, one factorisation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, Real
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.backends import Algebra, algebra, correlation
from nngp_prior.numerics.covariance import TIED, partners, require_semidefinite, rounding_of
from nngp_prior.numerics.linalg import pivoted_cholesky, pivoted_cholesky_in_two
from nngp_prior.numerics.threads import one_thread_blas
from nngp_prior.probability.checks import as_matrix, check_correlations, check_entries
from nngp_prior.probability.cost import backend_of, require_memory
from nngp_prior.schemas.specs.estimator import Estimator, more_than_two

# In units of the rounding ε of K's own type: diagonal shift used to measure the dependence of log P on rounding, one
# that makes log P independent of it, and the largest conditional variances for which that is done.
PERTURBATION = 4
HARMLESS = 10_000
_UNCERTAIN_VARIANCE = 4096
# Conditional variances below this justify a second factorisation, which finds duplicates and pivots. Below it float32
# rounding of conditional means also begins to affect the weights of particles.
SMALL_VARIANCE = 1e-6
_IMPOSSIBLE = 1e-6  # negative conditional variance, per unit variance, too large for rounding
# Number of inputs up to which BLAS gains nothing from a second thread, but two labellings in parallel do. BLAS uses one
# thread for them, so that a labelling has the same value alone, in a batch, and in a process limited to one core.
SMALL = 1000


@dataclass(frozen=True)
class FactoredKernel:
    """A kernel scaled to unit diagonal, freed of duplicates and factored.

    log P does not change when f_i is multiplied by a positive number, hence all computations use correlations.
    Inputs with correlation ±1 have labels that determine each other; one of each group is kept. With three classes or
    more that is so for correlation +1 alone. At -1 the largest function at one input is the smallest at the other,
    which only forbids equal labels.

    Attributes:
        K: the user's matrix, in float64 or float32, not copied.
        kept: indices of the inputs kept, in the order of visits.
        scale: 1/standard deviation of each input kept, noise included.
        diagonal_shift: c if the estimate is for K + cI, else 0.
        L: lower trapezoidal factor of the correlations of the inputs kept.
        group: for each input, the index in ``kept`` of the one it is tied to.
        sign: ±1 for each input: its label is that sign times the kept one's.
        opposite: for each input, the index of one that must not have the same class; its own index if there is none.
        rounding: ε of the type that K was computed in.
        algebra: linear algebra of ``L`` and the matrices derived from it, on the host or on a device.
    """

    K: Float[np.ndarray, "n n"]
    kept: Integer[np.ndarray, " m"]
    scale: Float[np.ndarray, " m"]
    diagonal_shift: float
    L: Float[Any, "m rank"]
    group: Integer[np.ndarray, " n"]
    sign: Float[np.ndarray, " n"]
    opposite: Integer[np.ndarray, " n"]
    rounding: float
    algebra: Algebra

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.K)

    @property
    def m(self) -> int:
        """Number of constraints, equal to the number of inputs kept."""
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
        """Smallest conditional variance of an input given those visited before, relative to its variance."""
        return float(np.min(np.square(self.algebra.diagonal(self.L))))

    @property
    def rounding_matters(self) -> bool:
        """True if conditional variances are so small that the rounding of K may change log P."""
        return self.smallest_conditional_variance < _UNCERTAIN_VARIANCE * self.rounding

    def perturbed(self, units: int) -> FactoredKernel:
        """Return the kernel of C + δI, C the correlations: a perturbation of the size of K's rounding.

        Args:
            units: δ in units of the rounding ε.

        Returns:
            the kernel, positive semi-definite as C is; the order of visits may differ.
        """
        scale = self.scale / np.sqrt(1 + units * self.rounding)
        factor = pivoted_cholesky(correlation(self.K, self.kept, scale, whole=True), _tolerance(self.m, self.rounding))
        return self._visited(factor.order, factor.L, scale)

    def conditional(
        self, cross: Float[np.ndarray, "t n"], variances: Float[np.ndarray, " t"]
    ) -> tuple[Float[np.ndarray, "t rank"], Float[np.ndarray, " t"], Bool[np.ndarray, " t"]]:
        """Condition the outputs at further inputs on those at the kernel's own, in prior standard deviations.

        Args:
            cross: covariances with the kernel's inputs.
            variances: prior variances of the further inputs, without noise.

        Returns:
            L_* (the mean given the kernel's whitened outputs ε is L_* ε), conditional standard deviations (0 if the
            variance is rounding), and a mask of the inputs tied to one of the kernel's.

        Raises:
            InvalidKernel: if a variance is too small for its covariances.
        """
        scale = 1 / np.sqrt(variances + self.diagonal_shift)
        C = cross[:, self.kept] * (scale[:, None] * self.scale)
        rows = self.algebra.solve(self.L, C[:, : self.rank].T).T
        variance = 1 - np.square(rows).sum(axis=1)
        i = int(np.argmin(variance))
        if variance[i] < -_IMPOSSIBLE:
            problem = f"the variance of input {i}, {variances[i]:.6g}, is smaller than its covariances admit"
            raise InvalidKernel("variances", problem, "Pass variances and covariances of one kernel.")
        variance[variance <= _tolerance(self.m, self.rounding)] = 0.0
        return rows, np.sqrt(variance), np.abs(C).max(axis=1) >= 1 - TIED * self.rounding

    def _visited(self, order: np.ndarray, L: np.ndarray, scale: np.ndarray) -> FactoredKernel:
        """Return the same kernel with another order of visits, given that order's factor."""
        place = np.empty(len(order), dtype=np.intp)
        place[order] = np.arange(len(order))
        L = self.algebra.place(L)
        return replace(self, kept=self.kept[order], scale=scale[order], L=L, group=place[self.group])

    def note(self) -> str:
        """Return a note on the kernel that the estimate is for, if that is not K itself."""
        return f"estimate of K + cI with c = {self.diagonal_shift:g}" if self.diagonal_shift else ""

    def reduce(self, labels: Real[np.ndarray, " n"]) -> Real[np.ndarray, " m"] | None:
        """Return the labels of the inputs kept, in the order of visits.

        Args:
            labels: ±1, or classes if the kernel was prepared for three or more.

        Returns:
            the labels; None if tied inputs have contradictory labels.
        """
        return None if np.any(self._contradicted(labels)) else labels[self.kept]

    def contradiction(self, labels: Real[np.ndarray, " n"]) -> tuple[int, int]:
        """Return the indices of two tied inputs whose labels contradict each other; at least one pair must exist."""
        second = int(np.argmax(self._contradicted(labels)))
        first = self.kept[self.group[second]]
        return int(first if first != second else self.opposite[second]), second

    def _contradicted(self, labels: np.ndarray) -> np.ndarray:
        """Return a mask of inputs whose label contradicts that of the input kept for them or of an opposite one."""
        opposite = (self.opposite != np.arange(self.n)) & (labels == labels[self.opposite])
        return (labels != self.sign * labels[self.kept][self.group]) | opposite

    def signed_correlation(
        self, labels: Float[np.ndarray, " m"], dtype: type[np.floating] = np.float64
    ) -> Float[Any, "m m"]:
        """Return K' = diag(y) C diag(y) of the inputs kept, the lower triangle at least."""
        return self.algebra.correlation(self.K, self.kept, self.scale * labels, dtype)


def blas_for(n: int) -> AbstractContextManager[None]:
    """Limit BLAS to one thread if n is small."""
    return one_thread_blas() if n <= SMALL else nullcontext()


def prepare(K: ArrayLike, estimator: Estimator, leading: int = 0) -> FactoredKernel:
    """Check a kernel matrix and factor it once for all labellings.

    Args:
        K: (n, n) covariance matrix.
        estimator: its noise variance and jitter are added to the diagonal; its memory is estimated.
        leading: number of leading inputs visited before the others, even if K is singular, for :func:`leading_part`.

    Returns:
        the factored kernel.

    Raises:
        InvalidKernel: if K is not a symmetric matrix of finite numbers with positive diagonal, or not positive
            semi-definite.
        ResourceLimit: if the estimator needs more memory than is free.
    """
    K = as_matrix(K)
    require_memory(len(K), estimator)
    diagonal_shift = estimator.noise_variance + estimator.jitter * float(np.mean(K.diagonal()))
    check_entries(K, diagonal_shift)
    n = len(K)
    scale, rounding = 1 / np.sqrt(K.diagonal().astype(np.float64) + diagonal_shift), rounding_of(K)
    everything = np.arange(n)
    own = algebra(backend_of(estimator))
    with blas_for(n):
        L = own.cholesky(own.correlation(K, everything, scale))
        regular = max(SMALL_VARIANCE, _UNCERTAIN_VARIANCE * rounding)
        if L is not None and np.square(own.diagonal(L)).min() > regular:
            return FactoredKernel(
                K, everything, scale, diagonal_shift, L, everything, np.ones(n), everything, rounding, own
            )
        del L
        return _prepare_singular(K, scale, diagonal_shift, own, more_than_two(estimator), leading)


def leading_part(kernel: FactoredKernel, count: int) -> FactoredKernel:
    """Return the kernel of the leading inputs alone, in the same order of visits.

    Args:
        kernel: prepared with ``leading=count``, or one whose inputs are visited in their own order.
        count: number of leading inputs.

    Returns:
        a factored kernel; its factor is a copy.
    """
    of_first = kernel.kept < count
    rows = np.flatnonzero(of_first)
    rank = int(np.sum(rows < kernel.rank))
    L = kernel.algebra.place(np.asfortranarray(kernel.algebra.to_host(kernel.L)[rows, :rank]))
    place = np.cumsum(of_first) - 1
    return FactoredKernel(
        kernel.K[:count, :count],
        kernel.kept[rows],
        kernel.scale[rows],
        kernel.diagonal_shift,
        L,
        place[kernel.group[:count]],
        kernel.sign[:count],
        np.where(kernel.opposite[:count] < count, kernel.opposite[:count], np.arange(count)),
        kernel.rounding,
        kernel.algebra,
    )


def _prepare_singular(
    K: np.ndarray, scale: np.ndarray, diagonal_shift: float, own: Algebra, many_classes: bool, leading: int
) -> FactoredKernel:
    """The general case: tied inputs merged, pivoting by the largest conditional variance, rank below n."""
    check_correlations(K, scale)
    n, rounding, everything = len(K), rounding_of(K), np.arange(len(K))
    first, sign = partners(K, scale, np.positive if many_classes else np.abs, rounding)
    while np.any(first[first] != first):  # rounding can leave chains
        sign, first = sign * sign[first], first[first]
    opposite = partners(K, scale, np.negative, rounding)[0] if many_classes else everything
    kept = np.flatnonzero(first == everything)
    # Always on the host: pivoting processes one column after another.
    C = correlation(K, kept, scale[kept], whole=True)
    tolerance = _tolerance(len(kept), rounding)
    factor = pivoted_cholesky(C.copy(order="F") if leading else C, tolerance)
    if factor.L.shape[1] < len(kept):
        require_semidefinite(K, kept, scale[kept], rounding)
    L, order = factor.L, factor.order
    if leading:
        L, order = pivoted_cholesky_in_two(C, int(np.sum(kept < leading)), tolerance)
    place = np.zeros(n, dtype=np.intp)
    place[kept] = np.arange(len(kept))
    tied = FactoredKernel(K, kept, scale[kept], diagonal_shift, L, place[first], sign, opposite, rounding, own)
    return tied._visited(order, L, scale[kept])


def _tolerance(n: int, rounding: float) -> float:
    """Return the conditional variance attributed to rounding, for n inputs of unit variance.

    With correlations as high as those of images the errors of pivoted elimination reached 43 ε at n = 1,000 and rank
    100, and 250 ε at n = 2,000 and rank 784.
    """
    return max(16, n / 8) * rounding
