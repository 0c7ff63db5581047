"""Infinite-width kernels, tile by tile, in float64."""

from __future__ import annotations

import jax
import numpy as np
import psutil
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork, network
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels.from_network import kernel_of_network
from nngp_prior.numerics.arrays import real_array
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.architecture import ARCHITECTURES, Architecture

_TILE = 1024


def kernel(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    X2: ArrayLike | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Float[np.ndarray, "n n2"]:
    """The NNGP kernel: covariance of a network's output at two inputs, over its random weights, at infinite width.

    Args:
        architecture: the specification of the network, or a user's own network with a ``kernel_fn``.
        X: (n, …) inputs; all axes but the first are flattened.
        X2: (n2, …) other inputs; X itself when absent, and then only the upper triangle is computed.
        progress: told of each tile.

    Returns:
        K in float64, exactly symmetric if X2 is absent.

    Raises:
        InvalidInput: inputs that are not finite numbers, or of different dimension.
        ResourceLimit: the matrix does not fit into memory.
    """
    if isinstance(architecture, FromNetwork):
        return kernel_of_network(architecture, X, X2, progress)
    if not isinstance(architecture, ARCHITECTURES):
        raise InvalidInput("architecture", f"got {architecture!r}", "Pass FullyConnected(…).")
    X = check_inputs("X", X)
    symmetric = X2 is None
    X2 = X if X2 is None else check_inputs("X2", X2)
    if X.shape[1] != X2.shape[1]:
        raise InvalidInput("X2", f"has {X2.shape[1]} features where X has {X.shape[1]}", "Give both the same features.")
    _require_memory(len(X), len(X2))
    K = np.empty((len(X), len(X2)))
    kernel_fn = network(architecture).kernel_fn
    tiles = [(i, j) for i in range(0, len(X), _TILE) for j in range(i if symmetric else 0, len(X2), _TILE)]
    report = progress or ignore
    with jax.enable_x64(True):
        # Tiles on the diagonal are computed with one argument, so that an input's correlation with itself is exactly 1.
        between = jax.jit(lambda a, b: kernel_fn(a, b, "nngp"))
        within = jax.jit(lambda a: kernel_fn(a, None, "nngp"))
        for done, (i, j) in enumerate(tiles, start=1):
            rows, columns = _tile(X, i), _tile(X2, j)
            height, width = min(_TILE, len(X) - i), min(_TILE, len(X2) - j)
            block = within(rows) if symmetric and i == j else between(rows, columns)
            block = np.asarray(block)[:height, :width]
            K[i : i + height, j : j + width] = block
            if symmetric and i != j:
                K[j : j + width, i : i + height] = block.T
            elif symmetric:
                K[i : i + height, j : j + width] = np.triu(block) + np.triu(block, 1).T
            report(Progress("kernel tiles", done, len(tiles)))
    if not np.isfinite(K).all():
        i = int(np.argmin(np.isfinite(K).all(axis=1)))
        raise InvalidInput(
            "X", f"the kernel of input {i} overflows (its largest value is {np.abs(X[i]).max():.1e})", "Scale X down."
        )
    return K


def check_inputs(name: str, X: ArrayLike) -> Float[np.ndarray, "n d"]:
    """Inputs as a matrix of float64, one a row.

    Args:
        name: of the argument, for the error.
        X: (n, …) real numbers.

    Returns:
        all axes but the first flattened.

    Raises:
        InvalidInput: not real, not finite, empty, or of fewer than two axes.
    """
    try:
        X = real_array(X)
    except (TypeError, ValueError) as error:
        raise InvalidInput(name, f"is not an array of real numbers ({error})", "Pass one row an input.") from None
    if X.ndim < 2 or X.size == 0:
        raise InvalidInput(name, f"has shape {X.shape}", "Pass a non-empty array with one row an input.")
    X = X.reshape(len(X), -1)
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        i = int(np.argmin(finite))
        feature = int(np.argmin(np.isfinite(X[i])))
        raise InvalidInput(name, f"input {i} has the value {X[i, feature]} at feature {feature}", "Remove or mend it.")
    return X


def _tile(X: np.ndarray, start: int) -> np.ndarray:
    """Rows from ``start``, padded to the tile's height with ones where one compilation shall serve all tiles."""
    part = X[start : start + _TILE]
    if len(X) <= _TILE or len(part) == _TILE:
        return part
    return np.concatenate([part, np.ones((_TILE - len(part), X.shape[1]))])


def _require_memory(n: int, n2: int) -> None:
    needed, available = 8 * n * n2, psutil.virtual_memory().available
    if needed > available:
        raise ResourceLimit(
            f"n: a kernel of {n:,} × {n2:,} inputs takes {needed / 2**30:.1f} GiB "
            f"and {available / 2**30:.1f} GiB are free. Use at most {int((available / 8) ** 0.5):,} inputs."
        )
