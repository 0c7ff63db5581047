r"""log P of a labelling as a sum over its inputs: the chain rule along an order.

.. math:: \log P(y) = \sum_i \log P(y_i | y_{<i})

Each summand is a difference of log P of two prefixes of the order. All prefixes are estimated with common random
numbers (:mod:`nngp_prior.probability.common_random_numbers`): the same points and the same shares of the mixture, each
prefix with the EP sites of its own labels. Errors of neighbouring prefixes mostly cancel, and the sum is the estimate
for all labels up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import progress as _progress
from nngp_prior import style
from nngp_prior.errors import InvalidInput
from nngp_prior.prior.posterior import smc_of
from nngp_prior.probability import prepare
from nngp_prior.probability.checks import as_matrix
from nngp_prior.probability.common_random_numbers import LabellingRun, labels_kept, log_ratio, run_labelling, seed_of
from nngp_prior.probability.cost import memory_needed, seconds_needed
from nngp_prior.probability.factored_kernel import FactoredKernel, blas_for, leading_part
from nngp_prior.progress import Progress, ProgressOption
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.base import label_axes
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of


@dataclass(frozen=True, repr=False)
class Contributions(Tabular):
    """Contributions of inputs to log P of a labelling, given those before them in an order.

    The data frame has a row for each prefix: ``size``, the ``input`` that was added last, ``value`` and ``stderr``.

    Attributes:
        order: order of the inputs, as indices into the rows of K.
        sizes: sizes of the prefixes, ascending; the last is n.
        value: log P(labels of the inputs from one prefix to the next | labels before), nats, one per prefix.
        stderr: jackknife standard errors over replicates, nats.
        log_p: estimate of log P of all labels; ``value`` sums to its value.
    """

    order: Integer[np.ndarray, " n"]
    sizes: Integer[np.ndarray, " prefixes"]
    value: Float[np.ndarray, " prefixes"]
    stderr: Float[np.ndarray, " prefixes"]
    log_p: Estimate

    @override
    def _summary(self) -> str:
        return f"of {number_of(len(self.order), 'input')}, {number_of(len(self.sizes), 'part')}, {self.log_p}"

    @override
    def _table(self) -> Table:
        columns = [
            Column("size", lambda i: int(self.sizes[i]), "int64", "inputs"),
            Column("input", lambda i: int(self.order[self.sizes[i] - 1]), "int64", "last input"),
            Column("value", lambda i: float(self.value[i]), heading="log P given those before (nats)"),
            Column("stderr", lambda i: float(self.stderr[i]), heading="s.e.", form=".2g"),
        ]
        return Table(columns, range(len(self.sizes)))

    @override
    def _draw(self, ax: Any) -> None:
        errors = 2 * self.stderr
        style.points(ax, self.sizes, self.value, self.value - errors, self.value + errors)
        label_axes(ax, "inputs along the order", "log P given earlier ones (nats), ± 2 s.e.", {})


def contributions(
    K: ArrayLike,
    y: ArrayLike,
    *,
    order: ArrayLike | None = None,
    sizes: Sequence[int] | None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Contributions:
    """Estimate log P(y_i | y_<i) of each label, or of each group of labels, along an order.

    Each prefix requires a run: n of them take a few milliseconds each at n = 100, and minutes in all at n = 1,000.
    Fewer ``sizes`` take less.

    Args:
        K: (n, n) covariance matrix.
        y: (n,) integers -1/+1 or booleans.
        order: (n,) indices of inputs, each once; default: the order of K.
        sizes: sizes of prefixes of the order, from 1 to n; default: all. n is added.
        seed: random seed.
        progress: True to show progress, or a callback, called after each prefix.
        **options: as for :func:`nngp_prior.posterior`.

    Returns:
        the summands, with errors.

    Raises:
        InvalidInput: if K, y, order, a size or an option is invalid, or the labels have probability 0.
    """
    parameters, K = smc_of(options), as_matrix(K)
    labels = check_labels(y, len(K))
    places = _order(order, len(K))
    ends = _sizes(sizes, len(K))
    y = labels[places]
    kernel = prepare(K if order is None else K[np.ix_(places, places)], parameters)
    if kernel.reduce(y) is None:
        labels_kept(prepare(K, parameters), labels)  # raises, with the user's input indices
    own_seed = seed_of(y, checked_seed(seed))
    seconds = sum(seconds_needed(end, parameters) for end in ends.tolist())
    with _progress.shown(progress, "contributions") as tell:
        tell(Progress("prefixes", 0, len(ends), Cost(memory_needed(len(K), parameters), seconds)))
        began = time.perf_counter()
        whole = _run(kernel, y, parameters, own_seed, len(K))
        log_p = whole.estimate(kernel, time.perf_counter() - began)
        if not np.isfinite(log_p.value):
            raise InvalidInput("y", log_p.message, "Without an estimate of log P there are no summands.")
        value, stderr, before = np.zeros(len(ends)), np.zeros(len(ends)), np.zeros(parameters.replicates)
        for i, prefix in enumerate(_prefixes(kernel, parameters, ends[:-1])):
            run = _run(prefix, y[: prefix.n], parameters, own_seed, len(K), whole.shares)
            value[i], stderr[i] = log_ratio(run.log_estimates, before)
            before = run.log_estimates
            tell(Progress("prefixes", i + 1, len(ends)))
        value[-1], stderr[-1] = log_ratio(whole.log_estimates, before)
        tell(Progress("prefixes", len(ends), len(ends)))
    return Contributions(places, ends, value, stderr, log_p)


def _run(
    kernel: FactoredKernel,
    labels: np.ndarray,
    parameters: SMC,
    seed: int,
    dimensions: int,
    shares: np.ndarray | None = None,
) -> LabellingRun:
    with blas_for(kernel.n):
        return run_labelling(
            kernel, labels_kept(kernel, labels), parameters, seed, dimensions, _progress.ignore, shares
        )


def _prefixes(
    kernel: FactoredKernel, parameters: SMC, ends: Integer[np.ndarray, " prefixes"]
) -> Iterator[FactoredKernel]:
    """Yield the kernels of prefixes: parts of the given one, unless K is so nearly singular that it was pivoted."""
    pivoted = not np.array_equal(kernel.kept, np.arange(kernel.n))
    same_noise = parameters.model_copy(update={"noise_variance": kernel.diagonal_shift, "jitter": 0.0})
    for end in ends.tolist():
        yield prepare(kernel.K[:end, :end], same_noise) if pivoted else leading_part(kernel, end)


def _order(order: ArrayLike | None, n: int) -> Integer[np.ndarray, " n"]:
    if order is None:
        return np.arange(n)
    places = np.asarray(order)
    if places.dtype.kind not in "iu" or places.ndim != 1 or not np.array_equal(np.sort(places), np.arange(n)):
        raise InvalidInput("order", f"is no order of {n} inputs", f"Pass the integers 0 … {n - 1}, each once.")
    return places.astype(np.int64)


def _sizes(sizes: Sequence[int] | None, n: int) -> Integer[np.ndarray, " prefixes"]:
    if sizes is None:
        return np.arange(1, n + 1)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= n:
            raise InvalidInput("sizes", f"got {size!r}", f"Pass integers from 1 to the number of inputs, {n:,}.")
    return np.array(sorted({*(int(size) for size in sizes), n}))
