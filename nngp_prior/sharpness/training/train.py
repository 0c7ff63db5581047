"""Training of finite networks, many seeds in parallel, from the prior whose kernel at infinite width is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.data.splits import wrong_classes
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import checked_executor
from nngp_prior.numerics.hashing import digest
from nngp_prior.numerics.whole_files import writable
from nngp_prior.progress import ProgressOption, shown
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.labels import check_labels, label_array
from nngp_prior.schemas.specs.training import Training
from nngp_prior.schemas.text import number_of
from nngp_prior.sharpness.risk.networks import (
    FiniteNetwork,
    Parameters,
    checked_classes,
    finite_network,
    high_precision,
)
from nngp_prior.sharpness.risk.validation import checked_data
from nngp_prior.sharpness.training.distributed import train_on
from nngp_prior.sharpness.training.trained import Trained, described
from nngp_prior.sharpness.training.trainer import TrainingArrays, TrainingRun

Examples = tuple[ArrayLike, ArrayLike]


@requires_architecture
def train(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    training: Training | None = None,
    *,
    classes: int | None = None,
    seeds: int | Sequence[int] = 1,
    attack: Examples | None = None,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    initial: Parameters | None = None,
    seed: SeedLike = 0,
    source: Mapping[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> Trained:
    """Train networks until all labels are correct, each from its own draw from the prior with its own minibatches.

    Args:
        architecture: a specification, including width or channels, or a user's network with one output, or C.
        X: (n, …) training inputs.
        y: (n,) training labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        training: training specification. Default: SGD on minibatches of 32 to zero training error.
        classes: number of classes C, at least 2. The networks then have C outputs, whose largest is the class; the loss
            is the cross-entropy of their softmax, or the squared distance from the one-hot label; all labels (training,
            attack, test) are 0 … C-1. Default: one output, whose sign is the label.
        seeds: number of networks, numbered from 0; or their numbers. Up to rounding, a network does not depend on the
            others. Network r starts with the parameters of network r of ``MonteCarlo(seed=seed)``.
        attack: additional inputs and labels for training that are not part of the function, as a pair; see
            :func:`attack_set`.
        X_test: (t, …) inputs at which final outputs are computed.
        y_test: (t,) labels of ``X_test``; required with it.
        initial: parameters to start from instead of draws, with a leading axis of seeds in each array.
        seed: random seed of all random numbers.
        source: source of the data, as JSON-compatible values; stored in ``about["source"]`` of the result.
        checkpoint: ``.npz`` file, to which results are saved at least ten seconds apart. A repeated call resumes from
            it, with a result identical bit for bit to that of an uninterrupted call.
        executor: executor whose workers train, with the same result on CPUs; see
            :func:`nngp_prior.log_probabilities`. Default: this process. A task has 8 to 15 networks, which are trained
            together, and fewer large ones. Without ``checkpoint``.
        progress: True for a progress bar, or a callback, called with the expected cost and after each epoch, or each
            task of an executor.

    Returns:
        the networks, with a status for each.

    Raises:
        InvalidInput: if an argument is invalid: labels that are not ±1 (or 0 … C-1) or not one per input,
            minibatches larger than the data, a checkpoint of another call.
        DataUnavailable: if the checkpoint is damaged.
        ResourceLimit: if a worker of the executor died.
    """
    if executor is not None:
        checked_executor(executor)
        if checkpoint is not None:
            remedy = "Leave it out and save what is returned, or run a study, which keeps finished tasks."
            raise InvalidInput("checkpoint", f"got {os.fspath(checkpoint)!r} with an executor", remedy)
    training = training or Training()
    numbers = _numbers(seeds)
    seed = checked_seed(seed)
    classes = checked_classes(classes)
    if classes is not None and training.penalty is not None:
        problem = f"{training.penalty.kind!r} is of networks with one output, and there are {classes}"
        raise InvalidInput("training.penalty", problem, "Leave it out; the optimizer sam also favours flat minima.")
    checked = _checked(architecture, X, y, attack, X_test, y_test, classes)
    if "batch_size" not in training.model_fields_set:
        training = training.model_copy(update={"batch_size": min(training.batch_size, len(checked.y))})
    if training.batch_size > len(checked.y):
        problem = f"got {training.batch_size} where there are {len(checked.y)} examples"
        raise InvalidInput("training.batch_size", problem, f"Use at most {len(checked.y)}.")
    network = finite_network(architecture, checked.X.shape[1:], classes)
    start = None if initial is None else _initial(network, initial, len(numbers), training.dtype)
    about = _about(architecture, training, seed, numbers, checked, start) | {"source": dict(source or {})}
    if classes is not None:
        about["classes"] = classes
    path = writable("checkpoint", checkpoint)
    with shown(progress, "training", rows=True) as tell, high_precision():
        if executor is not None:
            return train_on(executor, network, training, seed, numbers, checked, about, start, tell)
        run = TrainingRun(network, training, seed, numbers, checked, about)
        if path is not None and path.exists():
            run.resume_from(path)
        else:
            run.start(start)
        run.to_the_end(path, tell)
        return run.trained()


def attack_set(X: ArrayLike, y: ArrayLike, *, classes: int | None = None, seed: SeedLike = 0) -> Examples:
    """Return an attack set: points with wrong labels. A network that fits it also errs on most other points.

    Labels ±1 are flipped; of C classes, one of the C - 1 others is drawn for each point.

    Args:
        X: inputs that are in neither the training nor the test set.
        y: (n,) their true labels, -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        classes: number of classes C. Default: labels are ±1.
        seed: random seed of the wrong classes; unused without ``classes``.

    Returns:
        the inputs, and the wrong labels.

    Raises:
        InvalidInput: if ``classes`` or a label is invalid.
    """
    if (classes := checked_classes(classes)) is not None:
        true = check_labels(y, len(label_array(y)), classes)
        return X, wrong_classes(true, classes, checked_seed(seed))
    labels = label_array(y, "y")
    return X, ~labels if labels.dtype == np.bool_ else -labels


def _numbers(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Indices of the networks."""
    remedy = "Pass how many networks, or their numbers, different ones from 0 to 2³² - 1."
    numbers = range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    try:
        found = tuple(int(number) for number in numbers)  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
    except (TypeError, ValueError):
        raise InvalidInput("seeds", f"got {seeds!r}", remedy) from None
    if not found or min(found) < 0 or max(found) >= 2**32 or len(set(found)) < len(found):
        raise InvalidInput("seeds", f"got {seeds!r}", remedy)
    return found


def _checked(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    attack: Examples | None,
    X_test: ArrayLike | None,
    y_test: ArrayLike | None,
    classes: int | None,
) -> TrainingArrays:
    inputs, labels = _in_float64(architecture, X, y, ("X", "y"), classes)

    def of_shape(X: ArrayLike, y: ArrayLike, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        found = _in_float64(architecture, X, y, names, classes)
        if found[0].shape[1:] != inputs.shape[1:]:
            problem = f"has inputs of shape {found[0].shape[1:]} where the training set has {inputs.shape[1:]}"
            raise InvalidInput(names[0], problem, "Pass inputs of one shape.")
        return found

    if (X_test is None) != (y_test is None):
        given, missing = ("y_test", "X_test") if X_test is None else ("X_test", "y_test")
        raise InvalidInput(missing, f"is missing beside {given}", "Pass both, or neither.")
    test = None if X_test is None or y_test is None else of_shape(X_test, y_test, ("X_test", "y_test"))
    n = len(labels)
    if attack is not None:
        if not isinstance(attack, tuple | list) or len(attack) != 2:
            problem = f"got {type(attack).__name__}, not a pair (X, y)"
            raise InvalidInput("attack", problem, "Pass inputs and labels, such as attack_set(X, y).")
        more_inputs, more_labels = of_shape(*attack, ("attack[0]", "attack[1]"))
        inputs, labels = np.concatenate([inputs, more_inputs]), np.concatenate([labels, more_labels])
    return TrainingArrays(inputs, labels, n, test)


def _in_float64(
    architecture: Architecture | FromNetwork, X: ArrayLike, y: ArrayLike, names: tuple[str, str], classes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    inputs, labels = checked_data(architecture, X, y, names, classes)
    return inputs.astype(np.float64, copy=False), labels


def _initial(network: FiniteNetwork, initial: Parameters, seeds: int, dtype: str) -> Parameters:
    """Convert initial parameters to arrays of the requested dtype."""
    arrays = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), initial)
    shapes = [(seeds, *block.shape) for block in network.blocks]
    found = [leaf.shape for leaf in jax.tree.leaves(arrays)]
    if jax.tree.structure(arrays) != network.structure or found != shapes:
        problem = f"has arrays of shapes {found}, where {number_of(seeds, 'network')} must have {shapes}"
        raise InvalidInput("initial", problem, "Pass parameters of this architecture, with an axis of seeds in front.")
    return arrays


def _about(
    architecture: Architecture | FromNetwork,
    training: Training,
    seed: int,
    numbers: tuple[int, ...],
    data: TrainingArrays,
    initial: Parameters | None,
) -> dict[str, Any]:
    """Everything that the networks depend on, as decoded from JSON."""
    return {
        "architecture": described(architecture),
        "training": training.model_dump(mode="json"),
        "seed": seed,
        "seeds": list(numbers),
        "input_shape": list(data.X.shape[1:]),
        "n": data.n,
        "attack": len(data.y) - data.n,
        "examples": digest(data.X, data.y),
        "test": None if data.test is None else digest(*data.test),
        "initial": None if initial is None else digest(*jax.tree.leaves(initial)),
    }
