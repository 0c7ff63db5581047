"""Bitwise equal rows for equal inputs in a kernel matrix.

Computed separately, the rows of equal inputs differ by rounding, which chaotic networks amplify from layer to layer: at
depth 60 two copies may look like different inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.kernels.job import KernelJob


def distinct(X: Float[np.ndarray, "n ..."], dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Return the first of each set of equal inputs.

    Args:
        X: (n, …) inputs.
        dtype: precision in which they are compared.

    Returns:
        indices of the distinct inputs, ascending; and for each input its index among them.
    """
    seen: dict[bytes, int] = {}
    first: list[int] = []
    place = np.empty(len(X), dtype=np.intp)
    for i, x in enumerate(X):
        content = hashlib.blake2b((x.astype(dtype) + 0.0).tobytes(), digest_size=16).digest()  # -0.0 becomes 0.0
        place[i] = seen.setdefault(content, len(first))
        if place[i] == len(first):
            first.append(i)
    return np.array(first, dtype=np.intp), place


@dataclass(frozen=True)
class Copies:
    """The kernel of inputs that occur more than once, each computed once.

    Attributes:
        rows: for each row of the matrix the index of its input among these, or -1.
        columns: the same for columns.
        own: (g, g) kernel of these inputs with each other.
        with_rows: (g, n) kernel with the inputs of the rows.
        with_columns: (g, n2) kernel with the inputs of the columns.
    """

    rows: Integer[np.ndarray, " n"]
    columns: Integer[np.ndarray, " n2"]
    own: Float[np.ndarray, "g g"]
    with_rows: Float[np.ndarray, "g n"]
    with_columns: Float[np.ndarray, "g n2"]

    @classmethod
    def of(cls, job: KernelJob, whole: Callable[[KernelJob], np.ndarray]) -> Copies | None:
        """Find copies and compute their kernels.

        Args:
            job: the kernel job.
            whole: function that computes a smaller kernel.

        Returns:
            the copies; None if all inputs are distinct.
        """
        n = len(job.X)
        everything = job.X if job.symmetric else np.concatenate([job.X, job.columns])
        first, place = distinct(everything, job.dtype)
        several = np.flatnonzero(np.bincount(place) > 1)
        if not len(several):
            return None
        group = np.full(len(first), -1)
        group[several] = np.arange(len(several))
        rows = group[place[:n]]
        columns = rows if job.symmetric else group[place[n:]]
        inputs = everything[first[several]]
        with_columns = whole(replace(job, X=inputs, X2=job.columns))
        with_rows = with_columns if job.symmetric else whole(replace(job, X=inputs, X2=job.X))
        return cls(rows, columns, whole(replace(job, X=inputs, X2=None)), with_rows, with_columns)

    def apply(self, rows: slice, columns: slice, block: Float[np.ndarray, "rows columns"]) -> None:
        """Replace the entries of a tile that belong to copies.

        Args:
            rows: rows of the tile.
            columns: columns of the tile.
            block: entries of the tile, modified in place.
        """
        i, j = np.flatnonzero(self.rows[rows] >= 0), np.flatnonzero(self.columns[columns] >= 0)
        a, b = self.rows[rows][i], self.columns[columns][j]
        block[:, j] = self.with_rows[b, rows].T
        block[i] = self.with_columns[a, columns]
        block[np.ix_(i, j)] = self.own[np.ix_(a, b)]
