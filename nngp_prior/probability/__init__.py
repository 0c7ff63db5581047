"""log P of a labelling, from a kernel matrix and labels only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior import progress as _progress
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.executors import checked_executor
from nngp_prior.numerics.random import generator
from nngp_prior.numerics.threads import on_all_cores
from nngp_prior.probability import (  # noqa: F401  importing registers them
    bernstein_yue,
    closed_form,
    ep,
    ep2,
    ghk,
    laplace,
    minimax_tilting,
    sampling,
    smc,
)
from nngp_prior.probability.checks import as_matrix
from nngp_prior.probability.computation import compute, compute_all, compute_on
from nngp_prior.probability.cost import constraints, memory_needed, require_memory, seconds_needed
from nngp_prior.probability.ep import Sites
from nngp_prior.probability.factored_kernel import SMALL, FactoredKernel, blas_for, prepare
from nngp_prior.probability.multiclass import differences
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.rounding import with_rounding
from nngp_prior.probability.warm_start import Start, ep_start, sites_for, start_of
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.estimate import Estimate, Exact
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import (
    EP,
    SMC,
    Estimator,
    EstimatorOptions,
    classes_of,
    estimator_of,
    more_than_two,
)
from nngp_prior.schemas.specs.labels import check_labels_for
from nngp_prior.schemas.text import number_of

__all__ = [
    "EP",
    "ESTIMATORS",
    "SMALL",
    "SMC",
    "Cost",
    "Exact",
    "FactoredKernel",
    "Progress",
    "ProgressCallback",
    "Sites",
    "Start",
    "blas_for",
    "checked_seed",
    "classes_of",
    "compute",
    "compute_all",
    "constraints",
    "differences",
    "ep_start",
    "estimate_cost",
    "estimator_of",
    "generator",
    "log_probabilities",
    "log_probability",
    "memory_needed",
    "more_than_two",
    "on_all_cores",
    "prepare",
    "require_memory",
    "seconds_needed",
    "sites_for",
    "start_of",
    "with_rounding",
]


def log_probability(
    K: ArrayLike,
    y: ArrayLike,
    method: str | Estimator = "smc",
    *,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    start: Start | None = None,
    **options: Unpack[EstimatorOptions],
) -> Estimate:
    r"""Estimate log P of one labelling: log Pr[y_i f_i > 0 for all i], f ~ N(0, K), in nats.

    With ``classes=C`` it is log Pr[f^{y_i}_i > f^c_i for all i and c ≠ y_i], f^0 … f^{C-1} ~ N(0, K) independent.

    Args:
        K: (n, n) covariance matrix, such as an NNGP kernel. Its scale does not matter.
        y: (n,) integers -1/+1 or booleans; with ``classes=C``, integers 0 … C-1.
        method: a specification such as ``SMC(particles=256)``, or a name: ``smc`` (error bar, interval, rigorous
            bound), ``ep`` (fast, no error statement), ``ep2`` (EP with most of its error corrected, no error
            statement), ``laplace`` (fast, needs noise, no error statement), ``bernstein-yue`` (a lower bound without
            randomness), ``minimax-tilting`` (error bar, and an upper bound without randomness), ``closed-form``,
            ``sampling``. All but ``laplace`` and ``closed-form`` take ``classes``.
        seed: random seed, an integer from 0 to 2⁶³ - 1 or a JAX key; the same seed gives the same value on the same
            machine.
        progress: True to show progress, or a callback, called with the expected cost and with ``Progress`` events.
        start: initial sites for EP, from :func:`ep_start`; for ``ep``, ``ep2`` and ``smc``.
        **options: fields of a named method's specification, such as
            ``particles``, ``replicates``, ``target_stderr``, ``classes``, ``noise_variance`` (the estimate is then for
            K + vI) and ``jitter`` (relative to the mean diagonal).

    Returns:
        the estimate; -inf with status ``impossible`` if tied inputs have contradictory labels.

    Raises:
        InvalidInput: if K, y or an option is invalid.
        ResourceLimit: if n is too large for the memory.
    """
    estimator = estimator_of(method, **options)
    with _progress.shown(progress, "log P") as tell:
        return compute(prepare(K, estimator), y, estimator, seed, tell, start)


@overload
def log_probabilities(
    K: ArrayLike,
    Y: Sequence[ArrayLike] | np.ndarray,
    method: str | Estimator = "smc",
    *,
    seed: SeedLike = 0,
    executor: Executor | None = None,
    progress: ProgressOption = None,
    as_completed: Literal[False] = False,
    start: Start | None = None,
    **options: Unpack[EstimatorOptions],
) -> list[Estimate]: ...
@overload
def log_probabilities(
    K: ArrayLike,
    Y: Sequence[ArrayLike] | np.ndarray,
    method: str | Estimator = "smc",
    *,
    seed: SeedLike = 0,
    executor: Executor | None = None,
    progress: ProgressOption = None,
    as_completed: Literal[True],
    start: Start | None = None,
    **options: Unpack[EstimatorOptions],
) -> Iterator[tuple[int, Estimate]]: ...
def log_probabilities(
    K: ArrayLike,
    Y: Sequence[ArrayLike] | np.ndarray,
    method: str | Estimator = "smc",
    *,
    seed: SeedLike = 0,
    executor: Executor | None = None,
    progress: ProgressOption = None,
    as_completed: bool = False,
    start: Start | None = None,
    **options: Unpack[EstimatorOptions],
) -> list[Estimate] | Iterator[tuple[int, Estimate]]:
    """Estimate log P of many labellings of the same inputs; the kernel is checked and factored once.

    Args:
        K: (n, n) covariance matrix.
        Y: (L, n) labels, one labelling per row; all are checked before the first is computed.
        method: as for :func:`log_probability`.
        seed: random seed; the random numbers of a labelling derive from the seed and its labels, so that it has the
            same value in any batch.
        executor: executor whose workers estimate, with the same result: any of :mod:`concurrent.futures`, such as
            ``ProcessPoolExecutor(8, multiprocessing.get_context("spawn"))`` (forked processes are refused) or Dask's
            ``client.get_executor(pure=False)``. Default: this process. Workers read K from a file in the folder
            ``NNGP_SHARED`` (default: that of temporary files), which they must reach by the same path.
        progress: as for :func:`log_probability`.
        as_completed: yield pairs (row, estimate) as they finish, instead of returning a list at the end.
        start: as for :func:`log_probability`, for all labellings.
        **options: as for :func:`log_probability`.

    Returns:
        a list in the order of Y, or an iterator of pairs.

    Raises:
        InvalidLabels: if Y is a single labelling, not a list of them.
        InvalidInput: if K, a labelling or an option is invalid.
        ResourceLimit: if n is too large for the memory, or a worker of the executor died.
    """
    estimator = estimator_of(method, **options)
    if executor is not None:
        checked_executor(executor)
    matrix = as_matrix(K)
    kernel = prepare(matrix, estimator) if executor is None else None  # else workers prepare it
    if isinstance(Y, np.ndarray) and Y.ndim == 1:
        raise InvalidLabels("Y", f"has shape {np.shape(Y)}", "Pass (L, n) labels, one labelling per row.")
    rows = [check_labels_for(estimator, y, len(matrix), field=f"Y[{i}]") for i, y in enumerate(Y)]

    def found() -> Iterator[tuple[int, Estimate]]:
        """Show progress for as long as the iterator lasts."""
        with _progress.shown(progress, f"log P of {number_of(len(rows), 'labelling')}", rows=True) as tell:
            if executor is not None:
                yield from compute_on(executor, matrix, rows, estimator, seed, tell, start)
            elif kernel is not None:
                yield from compute_all(kernel, rows, estimator, seed, tell, start)

    return found() if as_completed else [estimate for _, estimate in sorted(found(), key=lambda pair: pair[0])]


def estimate_cost(
    n: int, method: str | Estimator = "smc", labellings: int = 1, **options: Unpack[EstimatorOptions]
) -> Cost:
    """Estimate the memory and time of an estimate without running it.

    Args:
        n: number of inputs.
        method: as for :func:`log_probability`.
        labellings: number of labellings on the same kernel.
        **options: as for :func:`log_probability`.

    Returns:
        bytes in addition to the kernel matrix, which decide whether the work is refused; seconds, correct to a factor
        of two on two otherwise idle cores of 2020s hardware.

    Raises:
        InvalidInput: if n is not a positive integer, or an option is invalid.
    """
    if not isinstance(n, int) or n < 1:
        raise InvalidInput("n", f"got {n!r}", "Pass a positive integer.")
    estimator = estimator_of(method, **options)
    return Cost(memory_needed(n, estimator), labellings * seconds_needed(n, estimator))


def __dir__() -> list[str]:
    return sorted(__all__)
