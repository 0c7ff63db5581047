"""Kernel matrix and labellings of a command, from a data set or from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nngp_prior.cli.common import output
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.data import (
    Classes,
)
from nngp_prior.schemas.specs.estimator import Estimator, estimator_of
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS, MonteCarlo
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.kernels import MonteCarloKernel

from nngp_prior.cli.common.parsing import Given


class EstimationTask(NamedTuple):
    """Kernel matrix, named labellings of its inputs, their source, and the estimator."""

    K: np.ndarray
    labellings: list[tuple[str, np.ndarray]]
    source: dict[str, Any]
    estimator: Estimator
    estimated: MonteCarloKernel | None = None  # kernel of random networks whose mean is K, if any


def estimates(task: EstimationTask, seed: int, bars: output.ProgressBars) -> list[tuple[str, Estimate]]:
    """Estimate log P of each labelling, including the error of the kernel if it has one.

    Args:
        task: kernel and labellings.
        seed: random seed of everything except the networks.
        bars: progress bars.

    Returns:
        names and estimates.
    """
    from nngp_prior.prior.uncertain_kernel import log_probability_under
    from nngp_prior.probability import compute_all, prepare
    from nngp_prior.schemas.specs.labels import check_labels_for

    estimator = task.estimator
    prepared = prepare(task.K, estimator)  # validates K, before the labels are validated
    rows = [check_labels_for(estimator, labels, prepared.n, field="labels") for _, labels in task.labellings]
    if task.estimated is not None:
        return [
            (name, log_probability_under(task.estimated, labels, estimator, BOOTSTRAPS, seed, bars.bar(name)))
            for name, labels in task.labellings
        ]
    names = [name for name, _ in task.labellings]
    title = names[0] if len(names) == 1 else number_of(len(names), "labelling")
    found = dict(compute_all(prepared, rows, estimator, seed, bars.bar(title, rows=True)))
    return [(name, found[i]) for i, name in enumerate(names)]


def task_of(
    given: Given,
    architecture: Architecture,
    estimator: Estimator,
    bars: output.ProgressBars,
    monte_carlo: int | None = None,
) -> EstimationTask:
    """Return the kernel of an architecture on inputs, or one from a file, with labellings.

    Args:
        given: source of inputs and labels.
        architecture: architecture of the network.
        estimator: estimator; its memory is checked before the kernel is computed. If labellings are classes, its
            classes are those of the data.
        bars: progress bars.
        monte_carlo: number of random networks whose mean is the kernel; default: analytic kernel.

    Returns:
        the task.

    Raises:
        InvalidInput: if labels are missing or invalid.
    """
    from nngp_prior.data import read_labels
    from nngp_prior.data.npy import read_npy
    from nngp_prior.prior.request_context import inputs_of
    from nngp_prior.probability import require_memory

    if given.kernel_file is not None:
        K = read_npy(given.kernel_file)
        if given.labels_file is None:
            raise InvalidInput("--labels-file", "is missing beside --kernel-file", "Give the labels of the inputs.")
        source = {"kernel": hashlib.sha256(K.tobytes()).hexdigest()}
        return EstimationTask(K, read_labels(given.labels_file), source, estimator)
    data, source, labellings = given.loaded()
    if given.labels_file is None:
        estimator = for_classes(estimator, labellings, data.known_classes)
    require_memory(len(data.X), estimator, with_kernel=True)
    named = given.named_labels(data, labellings, estimator)
    kind = "inputs" if given.inputs_file is not None else given.fields["kind"]
    progress = bars.bar(f"kernel of {len(data.X):,} {kind}")
    return _task(architecture, inputs_of(data, architecture), named, source, estimator, progress, monte_carlo)


def task_of_rows(
    architecture: Architecture,
    X: np.ndarray,
    labellings: list[tuple[str, np.ndarray]],
    source: dict[str, Any],
    estimator: Estimator,
    bars: output.ProgressBars,
) -> EstimationTask:
    """Return the kernel of an architecture on inputs, with given labels.

    Args:
        architecture: architecture of the network.
        X: inputs, (n, …).
        labellings: names and labels.
        source: JSON description of the inputs.
        estimator: estimator; its memory is checked before the kernel is computed.
        bars: progress bars.

    Returns:
        the task.
    """
    from nngp_prior.probability import require_memory

    require_memory(len(X), estimator, with_kernel=True)
    progress = bars.bar(f"kernel of {len(X):,} inputs")
    return _task(architecture, X, labellings, source, estimator, progress, None)


def for_classes(estimator: Estimator, labellings: Iterable[Any], known_classes: Sequence[int]) -> Estimator:
    """Return the estimator with the number of classes set if the labellings are classes.

    Args:
        estimator: estimator without classes.
        labellings: specifications, or labels.
        known_classes: classes of the data.

    Returns:
        the estimator.

    Raises:
        InvalidInput: if only some of the labellings are classes.
    """
    themselves = {isinstance(labelling, Classes) for labelling in labellings}
    if len(themselves) == 2:
        raise InvalidInput("labelling", "got classes beside labellings by -1 and +1", "Estimate them apart.")
    if True not in themselves or len(known_classes) < 2:
        return estimator
    return estimator_of(estimator.kind, classes=len(known_classes), **estimator.model_dump(exclude={"kind", "classes"}))


def _task(
    architecture: Architecture,
    X: np.ndarray,
    labellings: list[tuple[str, np.ndarray]],
    source: dict[str, Any],
    estimator: Estimator,
    progress: ProgressCallback,
    monte_carlo: int | None,
) -> EstimationTask:
    from nngp_prior.kernels import KernelCache, KernelJob, monte_carlo_kernel

    if monte_carlo is not None:
        specification = MonteCarlo(networks=monte_carlo)
        found = monte_carlo_kernel(architecture, X, specification, progress=progress)
        about = {"monte_carlo": specification.model_dump(mode="json")}
        about["architecture"] = architecture.model_dump(mode="json")
        return EstimationTask(found.K, labellings, {**about, **source}, estimator, found)
    job = KernelJob.of(architecture, X, None, "nngp", "float64")
    K = KernelCache().of(job, progress, source)
    source = {"kernel": job.key, "architecture": architecture.model_dump(mode="json"), **source}
    return EstimationTask(K, labellings, source, estimator)
