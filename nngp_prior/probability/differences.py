r"""Several classes as one orthant: the label is the class whose function, of C independent ones, is the largest.

With f^c ~ N(0, K) for each class c, input i has the label y_i where its C - 1 differences g_ic = f^{y_i}_i - f^c_i, c ≠
y_i, are positive. So P is an orthant probability again, of n (C - 1) variables with the covariance

.. math:: E g_{ic} g_{jd} = K_{ij} (A_{y_i} A_{y_j}^T)_{cd}, \qquad A_y f = (f^y - f^c)_{c \ne y} ,

and all that is known of orthants serves: EP's sites are on differences, which is where the constraints are, the
proposals are EP's, weights are bounded by the untwisted one, replicates are unbiased. Sites for each class by itself
would keep classes independent and cost C n³ instead of C³ n³, but they tie down what all functions have in common, of
which no label says anything.

Neither covariance nor factor takes a factorisation: differences to one class follow from those to another, A_y =
D_{yy'} A_{y'}, D with entries -1, 0 and 1, so that with K = L Lᵀ and ½ A_y A_yᵀ = ½ (I + 11ᵀ) = R Rᵀ, which is the same
for all y,

.. math:: \frac12 E g g^T = G G^T, \qquad G_{ij} = L_{ij} D_{y_i y_j} R \text{ in blocks of } C - 1 ,

lower triangular as L and R are (D_yy = I).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.numerics.backends import correlation
from nngp_prior.probability.prepared import PreparedKernel

_ENTRIES = 2**22  # made at a time


@dataclass(frozen=True)
class Differences(PreparedKernel):
    """A prepared kernel of the differences between the label's function and the others, of unit variance.

    Attributes:
        L: lower trapezoidal factor of their correlations; they are visited input by input, and in the order of classes.
        classes: C.
        given: labels of the inputs kept, 0 … C-1.
    """

    L: Float[Any, "constraints rank"]
    classes: int
    given: Integer[np.ndarray, " m"]

    @property
    def m(self) -> int:
        """Number of differences."""
        return self.L.shape[0]

    def signed_correlation(
        self, labels: Float[np.ndarray, " constraints"], dtype: type[np.floating] = np.float64
    ) -> Float[Any, "constraints constraints"]:
        """The differences' correlations; all of them have the label +1."""
        del labels
        C = correlation(self.K, self.kept, self.scale, np.float64, whole=True)
        A = _differences(self.classes)
        products = 0.5 * np.einsum("yac,zbc->yzab", A, A)
        G = _blocks(C, self.given, products, np.dtype(dtype))
        np.fill_diagonal(G, 1.0)
        return self.algebra.place(G)


def differences(kernel: PreparedKernel, labels: Integer[np.ndarray, " m"], classes: int) -> Differences:
    """The orthant problem of a labelling with several classes.

    Args:
        kernel: prepared for as many.
        labels: of the inputs kept, in the order of visits.
        classes: C.

    Returns:
        its kernel, for labels that are all +1.
    """
    A = _differences(classes)
    R = np.linalg.cholesky(0.5 * A[0] @ A[0].T)
    # With the function of class z as zero the others are minus their differences to it: A_y = D_yz A_z.
    D = -np.array([[A_y[:, np.arange(classes) != z] for z in range(classes)] for A_y in A])
    algebra = kernel.algebra
    L = _blocks(algebra.to_host(kernel.L), labels, D @ R, np.dtype(np.float64))
    parts = {field.name: getattr(kernel, field.name) for field in fields(kernel)}
    return Differences(**parts | {"L": algebra.place(L)}, classes=classes, given=labels)


def _differences(classes: int) -> Float[np.ndarray, "classes others classes"]:
    """A_y for every y."""
    everything = np.eye(classes)
    return np.array([everything[y] - np.delete(everything, y, axis=0) for y in range(classes)])


def _blocks(
    M: Float[np.ndarray, "m k"],
    labels: Integer[np.ndarray, " m"],
    table: Float[np.ndarray, "classes classes b b"],
    dtype: np.dtype,
) -> Float[np.ndarray, "rows columns"]:
    """The matrix with blocks M_ij table[y_i, y_j] in its lower triangle, in Fortran order; above it means nothing."""
    (m, k), b = M.shape, table.shape[-1]
    result = np.zeros((m * b, k * b), dtype=dtype, order="F")
    step = max(1, _ENTRIES // (m * b * b))
    table = np.ascontiguousarray(np.swapaxes(table, 2, 3), dtype=dtype)
    for start in range(0, k, step):
        stop = min(start + step, k)
        # Columns j and their parts, then rows and theirs: the order of the result's memory.
        parts = table[labels[None, start:], labels[start:stop, None]]
        parts *= M[start:, start:stop].T[:, :, None, None]
        columns = parts.transpose(0, 2, 1, 3).reshape((stop - start) * b, (m - start) * b)
        result[start * b :, start * b : stop * b] = columns.T
    return result
