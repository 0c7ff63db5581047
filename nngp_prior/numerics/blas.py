"""BLAS and LAPACK on parts of matrices, in place.

SciPy's own wrappers copy a block of a larger matrix before they work on it, and its result back. Here the block is
passed with its leading dimension, through the function pointers that SciPy exports for Cython. Matrices are views with
unit stride along columns; symmetric and triangular ones are lower unless stated otherwise.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.linalg import cython_blas, cython_lapack  # pyright: ignore[reportAttributeAccessIssue]

_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_CHARACTERS = {char: ctypes.byref(ctypes.c_char(char.encode())) for char in "LRNTU"}


def gemm(
    alpha: float, A: np.ndarray, B: np.ndarray, C: np.ndarray, trans_a: bool = False, trans_b: bool = False
) -> None:
    """C += alpha A B, with A or B optionally transposed."""
    inner = A.shape[0] if trans_a else A.shape[1]
    if inner:
        _call("gemm", C, _trans(trans_a), _trans(trans_b), *C.shape, inner, alpha, A, B, 1.0, C)


def syrk(alpha: float, A: np.ndarray, C: np.ndarray, trans: bool = False) -> None:
    """C += alpha A Aᵀ, or Aᵀ A, on the lower triangle."""
    inner = A.shape[0] if trans else A.shape[1]
    if inner:
        _call("syrk", C, "L", _trans(trans), len(C), inner, alpha, A, 1.0, C)


def trsm(T: np.ndarray, B: np.ndarray, right: bool = False, trans: bool = False) -> None:
    """B ← T⁻¹ B, or B T⁻¹, with T optionally transposed."""
    if B.size:
        _call("trsm", B, "R" if right else "L", "L", _trans(trans), "N", *B.shape, 1.0, T, B)


def trmm(T: np.ndarray, B: np.ndarray, right: bool = False, trans: bool = False, upper: bool = False) -> None:
    """B ← T B, or B T, with T optionally transposed, or upper triangular."""
    if B.size:
        _call("trmm", B, "R" if right else "L", "U" if upper else "L", _trans(trans), "N", *B.shape, 1.0, T, B)


def potrf(C: Float[np.ndarray, "n n"]) -> bool:
    """Compute the lower Cholesky factor in the lower triangle of C.

    Returns:
        False if C is not positive definite in its precision.
    """
    return _call("potrf", C, "L", len(C), C, ctypes.c_int(0)) == 0


def lauum(L: Float[np.ndarray, "n n"]) -> None:
    """Compute Lᵀ L in the lower triangle of L."""
    _call("lauum", L, "L", len(L), L, ctypes.c_int(0))


def _trans(transposed: bool) -> str:
    return "T" if transposed else "N"


@functools.cache
def _function(name: str, dtype: np.dtype) -> Callable[..., None]:
    """Return the routine for a floating point type; ctypes releases the GIL while it runs."""
    full = {"f": "s", "d": "d"}[dtype.char] + name
    capsule = (cython_lapack if name in ("potrf", "lauum") else cython_blas).__pyx_capi__[full]
    return ctypes.CFUNCTYPE(None)(_pointer_of(capsule, _name_of(capsule)))


def _call(name: str, like: np.ndarray, *arguments: str | float | ctypes.c_int | np.ndarray) -> int:
    """Call a routine in the precision of ``like``; a matrix argument is followed by its leading dimension.

    Returns:
        the last argument, which is LAPACK's ``info`` for its routines.
    """
    scalar = ctypes.c_float if like.dtype == np.float32 else ctypes.c_double
    passed: list[object] = []
    info = ctypes.c_int(0)
    for argument in arguments:
        match argument:
            case str():
                passed.append(_CHARACTERS[argument])
            case float():
                passed.append(ctypes.byref(scalar(argument)))
            case ctypes.c_int():
                info = argument
                passed.append(ctypes.byref(info))
            case np.ndarray():
                passed += [argument.ctypes.data_as(ctypes.c_void_p), _leading_dimension(argument, like)]
            case int():
                passed.append(ctypes.byref(ctypes.c_int(argument)))
    _function(name, like.dtype)(*passed)
    return info.value


def _leading_dimension(A: np.ndarray, like: np.ndarray) -> object:
    if A.dtype != like.dtype or A.ndim != 2 or (len(A) > 1 and A.strides[0] != A.itemsize):
        raise TypeError(f"a {like.dtype} matrix with unit stride along columns is needed")
    stride = A.strides[1] // A.itemsize if A.shape[1] > 1 else len(A)
    return ctypes.byref(ctypes.c_int(max(stride, len(A), 1)))
