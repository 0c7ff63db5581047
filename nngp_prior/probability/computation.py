"""Estimates on a factored kernel: one, many side by side, or many on an executor."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior import progress as _progress
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import SharedArray, blocks, task_runner
from nngp_prior.numerics.random import generator
from nngp_prior.numerics.threads import on_all_cores
from nngp_prior.probability.cost import constraints, memory_needed, require_memory, seconds_needed
from nngp_prior.probability.ep import Sites
from nngp_prior.probability.factored_kernel import SMALL, FactoredKernel, blas_for, prepare
from nngp_prior.probability.multiclass import differences
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.rounding import with_rounding
from nngp_prior.probability.warm_start import Start, sites_for, start_of
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.estimate import Estimate, Exact
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator, classes_of, more_than_two
from nngp_prior.schemas.specs.labels import check_labels_for


def compute_all(
    kernel: FactoredKernel,
    rows: list[np.ndarray],
    estimator: Estimator,
    seed: SeedLike,
    progress: ProgressCallback,
    start: Start | None = None,
) -> Iterator[tuple[int, Estimate]]:
    """Estimate many labellings on a factored kernel: small ones in parallel, one per core, others in sequence.

    Args:
        kernel: from :func:`prepare`, with the same estimator.
        rows: labels, as returned by :func:`nngp_prior.schemas.specs.labels.check_labels`.
        estimator: specification of the estimator.
        seed: random seed.
        progress: called with ``Progress`` events.
        start: initial sites for EP.

    Yields:
        index and estimate, as they finish.
    """
    side_by_side = constraints(kernel.n, estimator) <= SMALL and len(rows) > 1 and not kernel.algebra.on_device
    tell = _progress.ignore if side_by_side else _progress.without_cost(progress)
    seconds = len(rows) * seconds_needed(kernel.n, estimator)
    progress(Progress("labellings", 0, len(rows), Cost(memory_needed(kernel.n, estimator), seconds)))

    def one(labels: np.ndarray) -> Estimate:
        return compute(kernel, labels, estimator, seed, tell, start)

    for done, result in enumerate(on_all_cores(one, rows, None if side_by_side else 1), start=1):
        progress(Progress("labellings", done, len(rows)))
        yield result


def compute(
    kernel: FactoredKernel,
    y: ArrayLike,
    estimator: Estimator,
    seed: SeedLike = 0,
    progress: ProgressCallback | None = None,
    start: Start | None = None,
    keep: Callable[[Start], None] | None = None,
) -> Estimate:
    """Estimate log P of one labelling on a factored kernel.

    Args:
        kernel: from :func:`prepare`, with the same estimator.
        y: (n,) integers -1/+1 or booleans, or classes if the estimator has ``classes``.
        estimator: specification of the estimator.
        seed: random seed.
        progress: called with ``Progress`` events.
        start: initial sites for EP.
        keep: called with EP's final sites, a start for other runs, unless they are NaN.

    Returns:
        the estimate.

    Raises:
        InvalidInput: if y, seed or start are invalid.
    """
    seed = checked_seed(seed)
    for name, given in (("start", start), ("keep", keep)):
        if given is not None and not isinstance(estimator, EP | SMC):
            raise InvalidInput(name, f"{estimator.kind} runs no EP", "Leave it out, or use ep, ep2 or smc.")
    classes = classes_of(estimator)
    y = check_labels_for(estimator, y, kernel.n)
    for name, given in (("start", start), ("keep", keep)):
        if given is not None and more_than_two(estimator):
            raise InvalidInput(name, f"is of labels -1 and +1 where there are {classes} classes", "Leave it out.")
    if classes == 2:  # f¹ - f⁰ ~ N(0, 2K), and scale does not matter
        y = 2.0 * y - 1.0
    reduced = kernel.reduce(y)
    if reduced is None:
        first, second = kernel.contradiction(y)
        return Estimate(
            value=-np.inf,
            stderr=0.0,
            n=kernel.n,
            method=estimator.kind,
            status="impossible",
            message=(
                f"inputs {first} and {second} have correlation ±1 to rounding and cannot have the labels that they "
                "have: P = 0"
            ),
            evidence=Exact(log_p=-np.inf),
            diagonal_shift=kernel.diagonal_shift,
        )
    if classes is not None and kernel.m == 1 and isinstance(estimator, SMC):  # all classes are equally likely
        return Estimate(
            value=-math.log(classes),
            stderr=0.0,
            n=kernel.n,
            method=estimator.kind,
            diagnostics={"distinct_inputs": 1},
            evidence=Exact(log_p=-math.log(classes)),
            diagonal_shift=kernel.diagonal_shift,
        )
    content = y.astype(np.int8 if (classes or 2) < 128 else np.int64).tobytes()
    own_seed = int(generator(seed, content).integers(2**63))
    more: dict[str, Any] = {} if start is None else {"start": sites_for(kernel, reduced, start)}
    if keep is not None:

        def on_sites(sites: Sites) -> None:
            if np.isfinite(sites.precision).all() and np.isfinite(sites.shift).all():
                keep(start_of(kernel, y, sites))

        more["on_sites"] = on_sites
    tell = progress or _progress.ignore
    cost = Cost(memory_needed(kernel.n, estimator), seconds_needed(kernel.n, estimator))
    tell(Progress("labellings", 0, 1, cost))

    def estimate(kernel: FactoredKernel, reduced: np.ndarray, **more: Any) -> Estimate:
        if classes is not None and classes > 2:
            kernel = differences(kernel, reduced, classes)
            reduced = np.ones(kernel.m)
        return ESTIMATORS[estimator](kernel, reduced, estimator, own_seed, tell, **more)

    with blas_for(constraints(kernel.n, estimator)):
        found = estimate(kernel, reduced, **more)
        found = with_rounding(found, kernel, lambda other: estimate(other, y[other.kept]))
    return found.model_copy(update={"diagonal_shift": kernel.diagonal_shift}) if kernel.diagonal_shift else found


def compute_on(
    executor: Executor,
    K: np.ndarray,
    rows: Sequence[np.ndarray],
    estimator: Estimator,
    seed: SeedLike,
    progress: ProgressCallback,
    start: Start | None = None,
) -> Iterator[tuple[int, Estimate]]:
    """Estimate many labellings in tasks of an executor; the values are those of :func:`compute_all`.

    Args:
        executor: executor.
        K: (n, n) covariance matrix, which workers read from a shared file.
        rows: checked labels.
        estimator: specification of the estimator.
        seed: random seed.
        progress: called with the expected cost, and after each task.
        start: initial sites for EP.

    Yields:
        index and estimate, as they finish.

    Raises:
        ResourceLimit: if n is too large for the memory, or a worker died.
    """
    require_memory(len(K), estimator)
    seed, seconds = checked_seed(seed), seconds_needed(len(K), estimator)
    parts = blocks(len(rows), seconds)
    progress(Progress("labellings", 0, len(rows), Cost(memory_needed(len(K), estimator), len(rows) * seconds)))
    done = 0
    with task_runner(executor) as runner:
        array = runner.share(K)
        tasks = ((array, np.stack([rows[i] for i in part]), estimator, seed, start) for part in parts)
        for place, found in runner.run(_compute_block, tasks):
            for i, estimate in zip(parts[place], found, strict=True):
                done += 1
                progress(Progress("labellings", done, len(rows)))
                yield i, estimate


def _compute_block(
    array: SharedArray, Y: np.ndarray, estimator: Estimator, seed: int, start: Start | None
) -> list[Estimate]:
    kernel = _prepared(array, estimator)  # pyright: ignore[reportArgumentType]  frozen models are hashable
    return [compute(kernel, y, estimator, seed, None, start) for y in Y]


@functools.lru_cache(maxsize=1)
def _prepared(array: SharedArray, estimator: Estimator) -> FactoredKernel:
    """Kernel that further tasks of a worker use."""
    return prepare(array.load(), estimator)
