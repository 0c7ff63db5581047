"""Expected cost of the tasks of a study, on the host. Does not import JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nngp_prior.architectures import layers_of
from nngp_prior.data.splits import Outlines, training_shape
from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Store
from nngp_prior.experiments.tasks import Task
from nngp_prior.kernels import KernelJob
from nngp_prior.kernels.cost import seconds_of_kernel
from nngp_prior.kernels.footprint import working_bytes
from nngp_prior.numerics.threads import cores
from nngp_prior.probability import memory_needed, seconds_needed
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.quantities import LogEvidence, LogP, LogPosterior, PosteriorErrors, PriorBound, PriorQuantity
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS
from nngp_prior.sharpness.cost import measuring_cost, training_cost

_EPOCHS = 100  # guessed number of epochs until the goal


def cost_of(tasks: Sequence[Task], store: Store, workers: int = 1) -> Cost | None:
    """Return the expected cost of tasks together; see :func:`costs_of`.

    Args:
        tasks: tasks to be carried out.
        store: store of the study.
        workers: number of tasks carried out at a time.

    Returns:
        the cost; None if there are no tasks.
    """
    costs = list(costs_of(tasks, store))
    if not costs:
        return None
    return Cost(workers * max(cost.bytes for cost in costs), sum(cost.seconds for cost in costs) / workers)


def costs_of(tasks: Sequence[Task], store: Store) -> Iterator[Cost]:
    """Yield the expected cost of each task; the number of epochs is guessed, from finished networks if there are some.

    Large inputs are not loaded, and each data set is read once.

    Args:
        tasks: tasks to be carried out.
        store: store of the study.

    Yields:
        peak memory and time.
    """
    finished = [row["epochs"] for row in store.rows("train")]
    shapes: dict[str, tuple[int, ...]] = {}
    outlines = Outlines()
    for task in tasks:
        own = task.setting.protocol
        if own.data.content_hash not in shapes:
            shapes[own.data.content_hash] = _shape(task.setting, outlines)
        shape = shapes[own.data.content_hash]
        n, total = shape[0], shape[0] + own.data.test
        match task.quantity:
            case None:
                examples = n + own.data.attack
                epochs = float(own.training.epochs)
                if own.training.goal != "none":
                    epochs = float(np.mean(finished)) if finished else min(epochs, _EPOCHS)
                epochs += own.training.extra_epochs + (0 if own.course is None else own.course.epochs)
                cost = training_cost(own.architecture, (examples, *shape[1:]), own.training, own.seeds, round(epochs))
            case LogP() | LogPosterior() | LogEvidence() | PriorBound() | PosteriorErrors() as quantity:
                cost = _cost_under_kernel(own, quantity, n, total, shape[1:])
            case measure:
                cost = measuring_cost(own.architecture, shape, measure, "float64")
        yield cost


def _shape(setting: Setting[Protocol], outlines: Outlines) -> tuple[int, ...]:
    try:
        return training_shape(setting.protocol.data, outlines)
    except InvalidInput as error:
        raise InvalidInput(f"data ({setting}): {error.field}", error.problem, error.remedy) from None


def _cost_under_kernel(own: Protocol, quantity: PriorQuantity, n: int, total: int, shape: tuple[int, ...]) -> Cost:
    """Expected cost of a quantity of all networks of a setting, with its kernel."""
    if isinstance(quantity, LogPosterior | PosteriorErrors):
        estimator = SMC(particles=quantity.particles, replicates=quantity.replicates)
    else:
        estimator = quantity.estimator
    size = n if isinstance(quantity, LogEvidence | PriorBound) else total
    count = own.seeds if isinstance(quantity, LogP | LogPosterior) else 1
    cost = estimation_cost(size, estimator, count)
    if not isinstance(quantity, PriorBound) and quantity.kernel is not None:
        bootstraps = BOOTSTRAPS if isinstance(quantity, LogP | LogEvidence) else 0
        return Cost(cost.bytes + 8 * total * total, (1 + bootstraps) * cost.seconds)
    kernel = kernel_cost(own.architecture, (total, *shape))
    return Cost(cost.bytes + kernel.bytes, cost.seconds + kernel.seconds)


def estimation_cost(n: int, estimator: Estimator, labellings: int) -> Cost:
    """Return the expected cost of estimates of log P on the host, beside the kernel's.

    Args:
        n: number of inputs.
        estimator: the estimator.
        labellings: number of labellings.

    Returns:
        peak memory and time.
    """
    if isinstance(estimator, EP | SMC):
        estimator = estimator.model_copy(update={"backend": "numpy"})  # only JAX knows if there is a device
    return Cost(memory_needed(n, estimator), labellings * seconds_needed(n, estimator))


def kernel_cost(architecture: Architecture, shape: tuple[int, ...]) -> Cost:
    """Return the expected cost of a kernel on the host; as :func:`nngp_prior.kernels.kernel_cost`, which loads JAX.

    Args:
        architecture: the architecture.
        shape: shape of the inputs, (n, ...).

    Returns:
        bytes of the kernel and of its computation, and time.
    """
    n = shape[0]
    job = KernelJob.of(architecture, np.broadcast_to(0.0, shape), None, "nngp", "float64")
    working = working_bytes(layers_of(architecture), shape[1:], n, cores())
    return Cost(8 * n * n + working, seconds_of_kernel(job, cores()))
