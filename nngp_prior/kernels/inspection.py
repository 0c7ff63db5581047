"""Properties of a kernel matrix: its spectrum, and inputs that determine each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import InvalidKernel, ResourceLimit
from nngp_prior.numerics.covariance import TIED, partners, require_semidefinite, rounding_of
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of

_ROWS = 512  # rows processed at a time
_SHOWN = 10  # number of pairs of inputs reported


@dataclass(frozen=True, repr=False)
class Inspection(Tabular):
    """Properties of a kernel matrix; the data frame has a row for each eigenvalue.

    Attributes:
        n: number of inputs.
        trace: sum of the variances.
        smallest_variance: smallest diagonal entry.
        largest_variance: largest diagonal entry.
        asymmetry: the largest |K_ij - K_ji|.
        eigenvalues: eigenvalues, in descending order.
        rank: number of eigenvalues above n ε times the largest, ε the rounding of the matrix's own precision.
        effective_rank: exp of the entropy of the eigenvalues over their sum (Roy and Vetterli 2007, eq. 4).
        tied: number of pairs of inputs with correlation +1 or -1 up to rounding, whose labels determine each other.
        tied_pairs: the first of them, with the sign.
    """

    n: int
    trace: float
    smallest_variance: float
    largest_variance: float
    asymmetry: float
    eigenvalues: Float[np.ndarray, " n"]
    rank: int
    effective_rank: float
    tied: int
    tied_pairs: tuple[tuple[int, int, int], ...]

    @override
    def _summary(self) -> str:
        tied = number_of(self.tied, "tied pair")
        return f"n = {self.n:,}, rank {self.rank:,}, condition {self.condition:.3g}, {tied}"

    @override
    def _table(self) -> Table:
        sums = np.cumsum(self.eigenvalues)
        columns = [
            Column("index", lambda i: i + 1, "int64", "index"),
            Column("eigenvalue", lambda i: float(self.eigenvalues[i]), heading="eigenvalue", form=".6g"),
            Column("cumulative", lambda i: float(sums[i] / sums[-1]), heading="part of the trace up to it"),
        ]
        return Table(columns, range(self.n))

    @override
    def _draw(self, ax: Any) -> None:
        draw_eigenvalues(ax, self)

    @property
    def symmetric(self) -> bool:
        """True if exactly symmetric, as :func:`nngp_prior.kernel` returns it."""
        return self.asymmetry == 0

    @property
    def condition(self) -> float:
        """Ratio of the largest to the smallest eigenvalue; infinite if the smallest is not positive."""
        return float(self.eigenvalues[0] / self.eigenvalues[-1]) if self.eigenvalues[-1] > 0 else np.inf

    @property
    def singular(self) -> bool:
        """True if singular up to rounding."""
        return self.rank < self.n


def draw_eigenvalues(ax: Any, found: Inspection) -> None:
    """Draw the positive eigenvalues of a kernel against their index, and its rank if it is singular.

    Args:
        ax: axes of matplotlib.
        found: properties of the kernel.
    """
    index = np.arange(1, found.n + 1)
    positive = found.eigenvalues > 0
    ax.loglog(index[positive], found.eigenvalues[positive], ".-", color=style.INK, ms=4, lw=0.8)
    if found.singular:
        label = f"rank {found.rank:,} to rounding"
        ax.axvline(found.rank + 0.5, color=style.ACCENT, lw=1, ls="--", label=label)
        ax.legend(loc="lower left")
    ax.set(xlabel="index", ylabel="eigenvalue")
    ax.set_title(
        f"trace {found.trace:.4g}, effective rank {found.effective_rank:.4g}, condition {found.condition:.3g}",
        fontsize=10,
    )
    ax.grid(alpha=0.25)


def inspect(K: ArrayLike) -> Inspection:
    """Inspect a kernel matrix. Takes about 4/3 n³ operations and the memory of two more matrices.

    Args:
        K: (n, n) real numbers.

    Returns:
        the properties.

    Raises:
        InvalidKernel: if K is not a square matrix of finite real numbers, or not a covariance: tied inputs with
            different rows, or a negative eigenvalue that rounding does not explain.
        ResourceLimit: if two more matrices do not fit into memory.
    """
    K = np.asarray(K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.size == 0 or K.dtype.kind not in "iuf":
        raise InvalidKernel(
            "K", f"is an array of shape {K.shape} and type {K.dtype}", "Give a square matrix of real numbers."
        )
    n = len(K)
    free = psutil.virtual_memory().available
    if 16 * n * n > free:
        raise ResourceLimit(
            f"n: the spectrum of {n:,} inputs takes {16 * n * n / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free. "
            f"Use at most {int((free / 16) ** 0.5):,} inputs."
        )
    eps = rounding_of(K)
    asymmetry, tied, pairs = _entries(K, TIED * eps)
    variances = K.diagonal().astype(np.float64)
    eigenvalues = scipy.linalg.eigvalsh(K.astype(np.float64), overwrite_a=True, check_finite=False)[::-1]
    if variances.min() > 0:
        _require_covariance(K, 1 / np.sqrt(variances), eps, bool(eigenvalues[-1] < 0))
    shares = np.clip(eigenvalues, 0, None)
    shares = shares[shares > 0] / shares.sum()
    return Inspection(
        n=n,
        trace=float(variances.sum()),
        smallest_variance=float(variances.min()),
        largest_variance=float(variances.max()),
        asymmetry=asymmetry,
        eigenvalues=eigenvalues,
        rank=int((eigenvalues > n * eps * eigenvalues[0]).sum()),
        effective_rank=float(np.exp(-(shares * np.log(shares)).sum())),
        tied=tied,
        tied_pairs=pairs,
    )


def _require_covariance(K: np.ndarray, scale: np.ndarray, rounding: float, negative: bool) -> None:
    """Refuse tied inputs with different rows, and a negative eigenvalue of the correlations beyond rounding."""
    partners(K, scale, np.abs, rounding)
    if negative:
        require_semidefinite(K, np.arange(len(K)), scale, rounding)


def _entries(K: np.ndarray, tolerance: float) -> tuple[float, int, tuple[tuple[int, int, int], ...]]:
    """Return the largest asymmetry, the number of tied pairs, and the first of them."""
    n = len(K)
    deviation = np.sqrt(np.clip(K.diagonal().astype(np.float64), 0, None))
    asymmetry, count, pairs = 0.0, 0, []
    for start in range(0, n, _ROWS):
        rows = slice(start, min(start + _ROWS, n))
        part = np.asarray(K[rows], dtype=np.float64)
        if not np.isfinite(part).all():
            i, j = np.argwhere(~np.isfinite(part))[0]
            raise InvalidKernel("K", f"K[{i + start}, {j}] is {part[i, j]}", "Remove the input or correct the kernel.")
        asymmetry = max(asymmetry, float(np.abs(part[:, start:] - K[start:, rows].T).max()))
        scale = deviation[rows, None] * deviation
        tied = np.triu((np.abs(part) >= (1 - tolerance) * scale) & (scale > 0), start + 1)
        count += int(tied.sum())
        if len(pairs) < _SHOWN:
            found = np.argwhere(tied)[: _SHOWN - len(pairs)]
            pairs += [(int(i) + start, int(j), int(np.sign(part[i, j]))) for i, j in found]
    return asymmetry, count, tuple(pairs)
