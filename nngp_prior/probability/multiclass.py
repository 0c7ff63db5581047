r"""Multiclass labels as one orthant: the label is the class with the largest of C independent functions.

With f^c ~ N(0, K) for each class c, input i has the label y_i if its C - 1 differences g_ic = f^{y_i}_i - f^c_i, c ≠
y_i, are positive. So P is an orthant probability again, of n (C - 1) variables with the covariance

.. math:: E g_{ic} g_{jd} = K_{ij} (A_{y_i} A_{y_j}^T)_{cd}, \qquad A_y f = (f^y - f^c)_{c \ne y} ,

and every method for orthants applies: EP's sites are on differences, as the constraints are, the proposals are EP's,
weights are bounded by the untwisted one, replicates are unbiased. Separate sites for each class would keep classes
independent and cost C n³ instead of C³ n³, but they constrain the component that all functions share, which no label
determines.

Neither covariance nor factor requires a factorisation: differences to one class follow from those to another, A_y =
D_{yy'} A_{y'}, D with entries -1, 0 and 1, so that with K = L Lᵀ and ½ A_y A_yᵀ = ½ (I + 11ᵀ) = R Rᵀ, the same for all
y,

.. math:: \frac12 E g g^T = G G^T, \qquad G_{ij} = L_{ij} D_{y_i y_j} R \text{ in blocks of } C - 1 ,

lower triangular as L and R are (D_yy = I).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.numerics.backends import correlation
from nngp_prior.probability.factored_kernel import FactoredKernel

_ENTRIES = 2**22  # computed at a time


@dataclass(frozen=True)
class ClassDifferences(FactoredKernel):
    """Factored kernel of the differences between the label's function and the others, of unit variance.

    Attributes:
        L: lower trapezoidal factor of their correlations, visited input by input and in the order of classes.
        classes: number of classes C.
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
        """Return the differences' correlations; all labels are +1."""
        del labels
        C = correlation(self.K, self.kept, self.scale, np.float64, whole=True)

        def products(present: np.ndarray, z: int) -> np.ndarray:
            """Return ½ A_y A_zᵀ for all y."""
            others = np.array([_others(int(y), self.classes) for y in present])
            to_z = _others(z, self.classes)
            equal = (others[:, :, None] == to_z).astype(np.float64)
            equal -= (others == z)[:, :, None]
            equal -= (present[:, None] == to_z)[:, None, :]
            return 0.5 * (equal + (present == z)[:, None, None])

        G = _blocks(C, self.given, self.classes - 1, products, np.dtype(dtype))
        np.fill_diagonal(G, 1.0)
        return self.algebra.place(G)


def differences(kernel: FactoredKernel, labels: Integer[np.ndarray, " m"], classes: int) -> ClassDifferences:
    """Return the orthant problem of a labelling with several classes.

    Args:
        kernel: factored kernel, prepared for C classes.
        labels: classes of the inputs kept, in the order of visits.
        classes: number of classes C.

    Returns:
        its kernel, for labels that are all +1.
    """

    def factors(present: np.ndarray, z: int) -> np.ndarray:
        """Return D_yz R for all y."""
        f = relative_functions(z, classes)
        return np.array([f[y] - f[_others(int(y), classes)] for y in present])

    algebra = kernel.algebra
    L = _blocks(algebra.to_host(kernel.L), labels, classes - 1, factors, np.dtype(np.float64))
    parts = {field.name: getattr(kernel, field.name) for field in fields(kernel)}
    return ClassDifferences(**parts | {"L": algebra.place(L)}, classes=classes, given=labels)


def relative_functions(z: int, classes: int) -> Float[np.ndarray, "classes others"]:
    """Return (f^c - f^z)/√2 for all classes c, from whitened differences of class z to the others.

    Args:
        z: class.
        classes: number of classes C.

    Returns:
        the linear map: -R, and a row of zeros for z itself.
    """
    f = np.zeros((classes, classes - 1))
    f[_others(z, classes)] = -np.linalg.cholesky(0.5 * (np.eye(classes - 1) + 1))
    return f


def _others(y: int, classes: int) -> Integer[np.ndarray, " others"]:
    """Return all classes but y, in the order of the rows of A_y."""
    return np.delete(np.arange(classes), y)


def _blocks(
    M: Float[np.ndarray, "m k"],
    labels: Integer[np.ndarray, " m"],
    b: int,
    table: Callable[[np.ndarray, int], np.ndarray],
    dtype: np.dtype,
) -> Float[np.ndarray, "rows columns"]:
    """Return the matrix with blocks M_ij T[y_i, y_j] in its lower triangle, in Fortran order; the rest is undefined.

    Args:
        M: lower trapezoidal.
        labels: y of the rows of M.
        b: rows, and columns, of a block.
        table: T[y, z] for some y and one z, (y, b, b). Called only with labels that occur: all pairs of hundreds of
            classes would take gigabytes.
        dtype: dtype of the result.

    Returns:
        b rows and b columns for each row and column of M.
    """
    m, k = M.shape
    result = np.zeros((m * b, k * b), dtype=dtype, order="F")
    step = max(1, _ENTRIES // (m * b * b))
    present, of = np.unique(labels, return_inverse=True)
    for z in np.unique(labels[:k]):
        blocks = np.ascontiguousarray(np.swapaxes(table(present, int(z)), 1, 2), dtype=dtype)
        those = np.flatnonzero(labels[:k] == z)
        for chunk in np.split(those, range(step, len(those), step)):
            start = chunk[0]
            # Columns j and their parts, then rows and their parts: the order of the result's memory.
            parts = M[start:, chunk].T[:, :, None, None] * blocks[of[start:]]
            columns = parts.transpose(0, 2, 1, 3).reshape(len(chunk) * b, (m - start) * b)
            result[start * b :, (chunk[:, None] * b + np.arange(b)).ravel()] = columns.T
    return result
