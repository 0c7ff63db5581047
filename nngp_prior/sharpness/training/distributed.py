"""Training in tasks of an executor, and networks of several runs as those of one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from nngp_prior.architectures import FromNetwork
from nngp_prior.executors import Common, SharedArray, task_runner
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.training import Training
from nngp_prior.sharpness.cost import training_cost
from nngp_prior.sharpness.risk.networks import FiniteNetwork, Parameters, finite_network, high_precision
from nngp_prior.sharpness.training.epoch import most_on_processor
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.sharpness.training.trainer import TrainingArrays, TrainingRun


def train_on(
    executor: Executor,
    network: FiniteNetwork,
    training: Training,
    seed: int,
    numbers: tuple[int, ...],
    data: TrainingArrays,
    about: dict[str, Any],
    initial: Parameters | None,
    progress: ProgressCallback,
) -> Trained:
    """Train networks in tasks of an executor; on CPUs they are those of one run, bit for bit.

    Args:
        executor: the executor.
        network: the finite network.
        training: training specification.
        seed: random seed of all random numbers.
        numbers: numbers r of the networks.
        data: training data.
        about: everything that the networks depend on.
        initial: parameters to start from, with a leading axis of networks in each array; None for draws.
        progress: called with the expected cost, and after each task.

    Returns:
        the networks, in the order of their numbers.
    """
    own, total = network.architecture, len(numbers)
    parts = _parts(total, most_on_processor(network, training.batch_size, training.dtype))
    if not isinstance(own, FromNetwork):
        cost = training_cost(own, data.X.shape, training, total, training.epochs + training.extra_epochs)
        progress(Progress("networks", 0, total, cost, at_most=training.goal != "none"))
    done, found = 0, dict[int, Trained]()
    with task_runner(executor) as runner:
        arrays = [runner.share(array) for array in (data.X, data.y, *(data.test or ()))]
        leaves = None if initial is None else [runner.share(leaf) for leaf in jax.tree.leaves(initial)]
        common = runner.common(own)
        tasks = [(common, arrays, data.n, training, seed, numbers, part, leaves, network.classes) for part in parts]
        for place, trained in runner.run(_train_there, tasks):
            found[place] = trained
            done += len(trained)
            progress(Progress("networks", done, total))
    return _joined([found[place] for place in range(len(parts))], own, numbers, about)


def _parts(total: int, together: int) -> list[range]:
    """Divide networks into tasks, each of as many as are trained together or more: rounding depends on that number."""
    count = max(1, total // together)
    cuts = [total * i // count for i in range(count + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(cuts)]


def _train_there(
    architecture: Common[Architecture | FromNetwork],
    arrays: Sequence[SharedArray],
    n: int,
    training: Training,
    seed: int,
    numbers: tuple[int, ...],
    part: range,
    leaves: Sequence[SharedArray] | None,
    classes: int | None,
) -> Trained:
    """Train some networks in a worker."""
    X, y, *test = (array.load() for array in arrays)
    network = finite_network(architecture.value, X.shape[1:], classes)
    about = {"input_shape": list(X.shape[1:]), **({} if classes is None else {"classes": classes})}
    data = TrainingArrays(X, y, n, (test[0], test[1]) if test else None)
    start = None if leaves is None else jax.tree.unflatten(network.structure, [leaf.rows(part) for leaf in leaves])
    with high_precision():
        run = TrainingRun(network, training, seed, numbers[part.start : part.stop], data, about)
        run.start(start)
        run.to_the_end(None, ignore)
        return run.trained()


def _joined(
    parts: Sequence[Trained],
    architecture: Architecture | FromNetwork,
    numbers: tuple[int, ...],
    about: dict[str, Any],
) -> Trained:
    """Return networks that were trained in several runs as those of one."""
    first = parts[0]
    kept_epochs = max((part.kept_epochs for part in parts), key=len)
    rows, kept = max(len(part.history["loss"]) for part in parts), len(kept_epochs)

    def along_seeds(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
        """Concatenate on the second axis, behind epochs, of which arrays without the last ones have NaN."""
        filled = [np.pad(A, [(0, length - len(A))] + [(0, 0)] * (A.ndim - 1), constant_values=np.nan) for A in arrays]
        return np.concatenate(filled, axis=1)

    return Trained(
        architecture,
        first.training,
        first.seed,
        numbers,
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.parameters for part in parts)),
        tuple(status for part in parts for status in part.statuses),
        np.concatenate([part.epochs for part in parts]),
        np.concatenate([part.reached for part in parts]),
        {name: along_seeds([part.history[name] for part in parts], rows) for name in first.history},
        kept_epochs,
        jax.tree.map(lambda *leaves: along_seeds(leaves, kept), *(part.kept for part in parts)),
        None if first.test_outputs is None else np.concatenate([each.test_outputs for each in parts]),  # pyright: ignore[reportArgumentType, reportCallIssue]
        first.test_labels,
        about,
    )
