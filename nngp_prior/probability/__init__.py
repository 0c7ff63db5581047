"""log P of a labelling, from a kernel matrix and labels only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior import progress as _progress
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.numerics.random import generator
from nngp_prior.numerics.threads import on_all_cores
from nngp_prior.probability import (  # noqa: F401  importing registers them
    bernstein_yue,
    closed_form,
    ep,
    ep2,
    ghk,
    laplace,
    sampling,
    smc,
)
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
    "SMALL",
    "Cost",
    "FactoredKernel",
    "Start",
    "compute",
    "compute_all",
    "constraints",
    "ep_start",
    "estimate_cost",
    "estimator_of",
    "log_probabilities",
    "log_probability",
    "memory_needed",
    "prepare",
    "require_memory",
    "seconds_needed",
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
            randomness), ``closed-form``, ``sampling``. All but ``laplace`` and ``closed-form`` take ``classes``.
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
        progress: as for :func:`log_probability`.
        as_completed: yield pairs (row, estimate) as they finish, instead of returning a list at the end.
        start: as for :func:`log_probability`, for all labellings.
        **options: as for :func:`log_probability`.

    Returns:
        a list in the order of Y, or an iterator of pairs.

    Raises:
        InvalidLabels: if Y is a single labelling, not a list of them.
        InvalidInput: if K, a labelling or an option is invalid.
        ResourceLimit: if n is too large for the memory.
    """
    estimator = estimator_of(method, **options)
    kernel = prepare(K, estimator)
    if isinstance(Y, np.ndarray) and Y.ndim == 1:
        raise InvalidLabels("Y", f"has shape {np.shape(Y)}", "Pass (L, n) labels, one labelling per row.")
    rows = [check_labels_for(estimator, y, kernel.n, field=f"Y[{i}]") for i, y in enumerate(Y)]
    results = _with_progress(kernel, rows, estimator, seed, progress, start)
    return results if as_completed else [estimate for _, estimate in sorted(results, key=lambda pair: pair[0])]


def _with_progress(
    kernel: FactoredKernel,
    rows: list[np.ndarray],
    estimator: Estimator,
    seed: SeedLike,
    progress: ProgressOption,
    start: Start | None,
) -> Iterator[tuple[int, Estimate]]:
    """:func:`compute_all` with a progress display that lasts as long as the iterator."""
    with _progress.shown(progress, f"log P of {number_of(len(rows), 'labelling')}", rows=True) as tell:
        yield from compute_all(kernel, rows, estimator, seed, tell, start)


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
