"""The analytic kernel of a user's own network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import Common, SharedArray, task_runner
from nngp_prior.kernels.copies import distinct
from nngp_prior.kernels.job import check_choice
from nngp_prior.kernels.tiles import Grid
from nngp_prior.progress import Progress, ProgressOption, shown

_TILE = 256


def kernel_of_network(
    network: FromNetwork,
    X: ArrayLike,
    X2: ArrayLike | None = None,
    get: str = "nngp",
    progress: ProgressOption = None,
    executor: Executor | None = None,
) -> Float[np.ndarray, "n n2"]:
    """Compute the NNGP or tangent kernel of a ``stax`` triple by its own ``kernel_fn``.

    Args:
        network: network with a ``kernel_fn``.
        X: (n, …) inputs, of the shape that the network takes.
        X2: (n2, …) other inputs; default: X itself.
        get: ``nngp`` or ``ntk``, passed to ``kernel_fn``.
        progress: True to show progress, or a callback.
        executor: executor of the tiles; None for this process.

    Returns:
        K in float64, exactly symmetric without X2.

    Raises:
        InvalidInput: if ``get`` is invalid, ``kernel_fn`` is missing, or its result is not (n, n2) finite numbers.
    """
    if network.kernel_fn is None:
        raise InvalidInput(
            "architecture",
            f"{network.name!r} has no kernel_fn, and so no kernel at infinite width",
            "Pass kernel=MonteCarlo(…) to log_prior, or call monte_carlo_kernel; or give a stax triple.",
        )
    check_choice("get", get)
    X = check_inputs("X", X, network)
    symmetric = X2 is None
    X2 = X if X2 is None else check_inputs("X2", X2, network)
    (first, place), (first2, place2) = distinct(X), distinct(X2)
    X, X2 = X[first], X2[first2]
    K = np.empty((len(X), len(X2)))
    grid = Grid(len(X), len(X2), _TILE, symmetric)
    blocks = _blocks if executor is None else functools.partial(_blocks_on, executor)
    with shown(progress, "kernel") as report:
        for done, (index, block) in enumerate(blocks(network, X, None if symmetric else X2, get, grid), start=1):
            within = _within(grid, index)
            grid.put(K, grid.tiles[index], np.tril(block) + np.tril(block, -1).T if within else block)
            report(Progress("kernel tiles", done, len(grid)))
    return K if K.shape == (len(place), len(place2)) else K[np.ix_(place, place2)]  # equal inputs have equal rows


def _blocks(
    network: FromNetwork, X: np.ndarray, X2: np.ndarray | None, get: str, grid: Grid
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield tiles with their indices."""
    assert network.kernel_fn is not None
    kernel_fn = jax.jit(network.kernel_fn, static_argnames="get")
    for place, tile in enumerate(grid.tiles):
        columns = None if _within(grid, place) else (X if X2 is None else X2)[tile.columns]
        yield place, _block(network, kernel_fn, X[tile.rows], columns, get)


def _blocks_on(
    executor: Executor, network: FromNetwork, X: np.ndarray, X2: np.ndarray | None, get: str, grid: Grid
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield tiles with their indices, from tasks of an executor, one each."""
    with task_runner(executor) as runner:
        arrays = runner.share(X), None if X2 is None else runner.share(X2)
        common = runner.common(network)
        yield from runner.run(_block_there, ((common, *arrays, get, grid, place) for place in range(len(grid))))


def _block_there(
    network: Common[FromNetwork], X: SharedArray, X2: SharedArray | None, get: str, grid: Grid, place: int
) -> np.ndarray:
    """Compute a tile in a worker."""
    own, tile = network.value, grid.tiles[place]
    columns = None if _within(grid, place) else (X if X2 is None else X2).rows(tile.columns)
    return _block(own, _compiled(own), X.rows(tile.rows), columns, get)


@functools.lru_cache(maxsize=4)
def _compiled(network: FromNetwork) -> Callable[..., Any]:
    """Compiled function that further tasks of a worker use."""
    assert network.kernel_fn is not None
    return jax.jit(network.kernel_fn, static_argnames="get")


def _within(grid: Grid, place: int) -> bool:
    """True if rows and columns of a tile are the same inputs."""
    return grid.symmetric and grid.tiles[place].on_diagonal


def _block(
    network: FromNetwork, kernel_fn: Callable[..., Any], rows: np.ndarray, columns: np.ndarray | None, get: str
) -> np.ndarray:
    with jax.enable_x64(True):
        block = np.asarray(kernel_fn(rows, columns, get=get))
    shape = len(rows), len(rows if columns is None else columns)
    if block.shape != shape or not np.isfinite(block).all():
        problem = f"gives {network.name!r} no finite kernel of shape {shape}"
        raise InvalidInput("kernel_fn", problem, f"Return K for get={get!r}; scale X down if it overflows.")
    return block
