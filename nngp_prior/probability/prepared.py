"""What of a kernel matrix serves all its labellings: checks, scaling, duplicates, one factorisation."""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass

import numpy as np
import psutil
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidKernel, InvalidLabels, ResourceLimit
from nngp_prior.numerics.arrays import real_array
from nngp_prior.numerics.linalg import pivoted_cholesky, posterior_factor
from nngp_prior.schemas.estimator import EP, SMC, Estimator

_ASYMMETRY_ALLOWED = 1e-8  # of correlations
_INDEFINITENESS_ALLOWED = 1e-8  # of a unit diagonal; what is smaller is rounding in K
_ROUNDING_OF_FLOAT32 = 1e-3  # more is no rounding of a covariance matrix
_TIED = 64 * np.finfo(np.float64).eps  # 1 - |correlation| of inputs whose labels determine each other
_SMALLEST_VARIANCE = 1e-290  # whose inverse and products with its like are still normal numbers
_ROWS = 512  # of K looked at at a time
COLUMNS = 1024  # particles side by side in one thread: enough for matrix products, few enough for the cache


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

    def signed_correlation(self, labels: Float[np.ndarray, " m"], dtype: np.dtype) -> Float[np.ndarray, "m m"]:
        """K' = diag(y) C diag(y) of the inputs kept, in Fortran order."""
        return _correlation(self.K, self.kept, self.scale * labels, dtype)

    def signed_factor(
        self, labels: Float[np.ndarray, " m"], rows: slice = slice(None)
    ) -> Float[np.ndarray, "rows rank"]:
        """Rows of the factor of K', which has a positive diagonal: diag(y) L diag(y), in row-major order."""
        signed = np.multiply(self.L[rows], labels[rows, None], order="C")
        signed *= labels[: self.rank]
        return signed

    def signed_posterior_factor(
        self, labels: Float[np.ndarray, " m"], precision: Float[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, "m rank"], float]:
        """Factor of (K'⁻¹ + S)⁻¹ and log |I + S½ K' S½|, as :func:`posterior_factor`, which the signs pass through."""
        factor, log_determinant = posterior_factor(self.L, precision)
        factor *= labels[:, None]
        factor *= labels[: self.rank]
        return factor, log_determinant


def prepare(K: ArrayLike, estimator: Estimator) -> PreparedKernel:
    """Check a kernel matrix and factor it once for all labellings.

    Args:
        K: (n, n) covariance matrix.
        estimator: its noise variance and jitter are added to the diagonal; its memory is estimated.

    Returns:
        the prepared kernel.

    Raises:
        InvalidKernel: as for :func:`check_kernel`, or not positive semi-definite.
    """
    K = check_kernel(K, estimator)
    n = len(K)
    added = added_variance(K, estimator)
    scale = 1 / np.sqrt(K.diagonal() + added)
    first, sign = _tied_to(K, scale)
    kept = np.flatnonzero(first == np.arange(n))
    factor = pivoted_cholesky(_correlation(K, kept, scale[kept], np.dtype(np.float64)))
    if factor.residual > _INDEFINITENESS_ALLOWED:
        remedy = "Check how it was computed."
        if factor.residual < _ROUNDING_OF_FLOAT32:
            remedy += f" If in float32, pass jitter={max(1e-6, 10 * factor.residual):.0e}."
        raise InvalidKernel(
            "K", f"is not positive semi-definite (relative to its diagonal, by {factor.residual:.1e})", remedy
        )
    kept = kept[factor.order]
    place = np.empty(n, dtype=np.intp)
    place[kept] = np.arange(len(kept))
    return PreparedKernel(K, kept, scale[kept], added, factor.L, place[first], sign)


def added_variance(K: Float[np.ndarray, "n n"], estimator: Estimator) -> float:
    """c where the estimate is of K + cI."""
    return estimator.noise_variance + estimator.jitter * float(np.mean(K.diagonal()))


def check_kernel(K: ArrayLike, estimator: Estimator) -> Float[np.ndarray, "n n"]:
    """K as a float64 array, if what will be done with it fits into memory.

    Args:
        K: (n, n) covariance matrix.
        estimator: what will be run.

    Returns:
        the same array if it was one of float64 already.

    Raises:
        InvalidKernel: not a square matrix, empty, not finite, not symmetric, a variance not positive, or a
            correlation above 1.
    """
    try:
        K = real_array(K)
    except (TypeError, ValueError) as error:
        raise InvalidKernel("K", f"is not a matrix of real numbers ({error})", "Pass an n × n array.") from None
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.size == 0:
        raise InvalidKernel("K", f"has shape {K.shape}", "Pass a square matrix, one row and column an input.")
    require_memory(len(K), estimator)
    diagonal = K.diagonal()
    for rows in _row_blocks(len(K)):
        if not np.isfinite(K[rows]).all():
            i, j = np.argwhere(~np.isfinite(K[rows]))[0]
            i += rows.start
            raise InvalidKernel("K", f"K[{i}, {j}] is {K[i, j]}", "Remove the input or mend the kernel.")
    if diagonal.min() < _SMALLEST_VARIANCE:
        i = int(np.argmin(diagonal))
        raise InvalidKernel(
            "K",
            f"the variance K[{i}, {i}] of input {i} is {diagonal[i]:g}, so that its label is undefined",
            "Leave the input out (a zero vector has no label without biases), or give the network a bias.",
        )
    deviation = np.sqrt(diagonal + added_variance(K, estimator))
    for rows in _row_blocks(len(K)):
        unit = deviation[rows, None] * deviation
        asymmetry = np.abs(K[rows] - K[:, rows].T) / unit
        if asymmetry.max() > _ASYMMETRY_ALLOWED:
            i, j = np.unravel_index(np.argmax(asymmetry), asymmetry.shape)
            i += rows.start
            raise InvalidKernel(
                "K",
                f"is not symmetric: K[{i}, {j}] = {K[i, j]:.10g} but K[{j}, {i}] = {K[j, i]:.10g}",
                "Pass (K + K.T) / 2 if the difference is rounding.",
            )
        excess = np.abs(K[rows]) / unit
        if excess.max() > 1 + _INDEFINITENESS_ALLOWED:
            i, j = np.unravel_index(np.argmax(excess), excess.shape)
            raise InvalidKernel(
                "K",
                f"is not positive semi-definite: inputs {i + rows.start} and {j} have correlation {excess[i, j]:.10g}",
                "Check how it was computed; if in float32, pass jitter=1e-5.",
            )
    return K


def check_labels(labels: ArrayLike, n: int) -> Float[np.ndarray, " n"]:
    """Labels as ±1.0.

    Args:
        labels: n integers -1 or +1, or n booleans (True is +1).
        n: the number of inputs.

    Returns:
        an array of -1.0 and +1.0.

    Raises:
        InvalidLabels: other values, or another number of them.
    """
    y = np.asarray(labels)
    if y.ndim != 1 or len(y) != n:
        raise InvalidLabels("labels", f"have shape {y.shape} where K has {n} inputs", "Pass one label an input.")
    if y.dtype == np.bool_:
        return np.where(y, 1.0, -1.0)
    if y.dtype.kind not in "iuf":
        raise InvalidLabels("labels", f"are of type {y.dtype}", "Pass integers -1 and +1, or booleans.")
    wrong = np.flatnonzero((y != 1) & (y != -1))
    if len(wrong):
        i = int(wrong[0])
        if np.isin(y, (0, 1)).all():
            raise InvalidLabels("labels", f"are 0 and 1 (labels[{i}] is {y[i]})", "Pass 2 * labels - 1, or booleans.")
        raise InvalidLabels("labels", f"labels[{i}] is {y[i]}", "Labels are -1 or +1, or booleans.")
    return y.astype(np.float64)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_needed(n: int, estimator: Estimator) -> int:
    """Peak bytes of one estimate on an n × n matrix, the matrix itself not counted."""
    match estimator:
        case SMC(particles=particles):
            # L, EP's factor and the two matrices of a further one, three proposals in float32; then the particles of
            # each thread: uniform numbers and whitened variables under four proposals.
            return int(8 * n * n * 5.5) + cores() * max(COLUMNS, particles) * n * 5 * 8
        case EP():
            return int(8 * n * n * 4)
        case _:
            return int(8 * n * n * 4) + 2**27


def require_memory(n: int, estimator: Estimator, with_kernel: bool = False) -> None:
    """Refuse work that does not fit before it starts.

    Args:
        n: the number of inputs.
        estimator: what will be run.
        with_kernel: whether the matrix itself is still to be made.

    Raises:
        ResourceLimit: names the largest n that would fit.
    """
    available = psutil.virtual_memory().available

    def needed_for(n: int) -> int:
        return memory_needed(n, estimator) + with_kernel * 8 * n * n

    needed = needed_for(n)
    if needed > available:
        largest = bisect.bisect_right(range(n), available, key=needed_for) - 1
        raise ResourceLimit(
            f"n: {estimator.kind} on n = {n:,} inputs needs {needed / 2**30:.1f} GiB and {available / 2**30:.1f} GiB "
            f"are free. Use at most {largest:,} inputs, or a machine with more memory."
        )


def _row_blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _correlation(K: np.ndarray, kept: np.ndarray, scale: np.ndarray, dtype: np.dtype) -> np.ndarray:
    C = np.empty((len(kept), len(kept)), dtype=dtype, order="F")
    for columns in _row_blocks(len(kept)):
        # K is symmetric: its rows are read, the columns of C written, both contiguous.
        C[:, columns] = (K[kept[columns]][:, kept] * (scale[columns, None] * scale)).T
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
