"""Expected cost of the tasks of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nngp_prior.experiments.store import Store
from nngp_prior.experiments.tasks import Task, sets_of
from nngp_prior.kernels import kernel_cost
from nngp_prior.probability import memory_needed, seconds_needed
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.quantities import LogEvidence, LogP, LogPosterior, PosteriorErrors, PriorBound, PriorQuantity
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS
from nngp_prior.sharpness.cost import measuring_cost, training_cost

_EPOCHS = 100  # guessed number of epochs until the goal


def cost_of(tasks: Sequence[Task], store: Store, workers: int) -> Cost | None:
    """Return the expected cost of tasks; the number of epochs is guessed, from finished networks if there are some.

    Args:
        tasks: tasks to be carried out.
        store: store of the study.
        workers: number of tasks carried out at a time.

    Returns:
        the cost; None if there are no tasks.
    """
    finished = [row["epochs"] for row in store.rows("train")]
    seconds, memory = 0.0, 0
    for task in tasks:
        own, sets = task.setting.protocol, sets_of(task.setting)
        shape = sets.train[0].shape
        n = len(sets.train[1])
        total = n + (0 if sets.test is None else len(sets.test[1]))
        match task.quantity:
            case None:
                examples = n + (0 if sets.attack is None else len(sets.attack[1]))
                epochs = float(np.mean(finished)) if finished else min(own.training.epochs, _EPOCHS)
                epochs += own.training.extra_epochs
                cost = training_cost(own.architecture, (examples, *shape[1:]), own.training, own.seeds, round(epochs))
            case LogP() | LogPosterior() | LogEvidence() | PriorBound() | PosteriorErrors() as quantity:
                cost = _cost_under_kernel(own, quantity, n, total, shape[1:])
            case measure:
                cost = measuring_cost(own.architecture, shape, measure, "float64")
        seconds, memory = seconds + cost.seconds, max(memory, cost.bytes)
    return Cost(workers * memory, seconds / workers) if tasks else None


def _cost_under_kernel(own: Protocol, quantity: PriorQuantity, n: int, total: int, shape: tuple[int, ...]) -> Cost:
    """Expected cost of a quantity of all networks of a setting, with its kernel."""
    if isinstance(quantity, LogPosterior | PosteriorErrors):
        estimator = SMC(particles=quantity.particles, replicates=quantity.replicates)
    else:
        estimator = quantity.estimator
    size = n if isinstance(quantity, LogEvidence | PriorBound) else total
    count = own.seeds if isinstance(quantity, LogP | LogPosterior) else 1
    memory, seconds = memory_needed(size, estimator), count * seconds_needed(size, estimator)
    if not isinstance(quantity, PriorBound) and quantity.kernel is not None:
        bootstraps = BOOTSTRAPS if isinstance(quantity, LogP | LogEvidence) else 0
        return Cost(memory + 8 * total * total, (1 + bootstraps) * seconds)
    kernel = kernel_cost(own.architecture, total, shape)
    return Cost(memory + kernel.bytes, seconds + kernel.seconds)
