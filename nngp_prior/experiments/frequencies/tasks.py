"""The work of a study of functions in tasks: draws of networks, training, quantities of functions.

As those of studies of networks, rows are kept by keys that have everything that they depend on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8

from nngp_prior.data.complexity import complexity
from nngp_prior.experiments.execution import with_versions
from nngp_prior.experiments.frequencies.choice import CHOOSING, draws_file, from_hex, to_hex, trained_key
from nngp_prior.experiments.frequencies.inputs import inputs_of
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Key
from nngp_prior.experiments.workers import Rows
from nngp_prior.kernels import KernelCache
from nngp_prior.numerics.random import generator
from nngp_prior.prior.posterior import posterior
from nngp_prior.prior.sampling.packing import counted, pack
from nngp_prior.prior.sampling.sample import sample_functions
from nngp_prior.probability import compute_all, prepare
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.frequencies import Complexity, FrequencyProtocol, FunctionQuantity, SampledLogP
from nngp_prior.schemas.quantities import LogP, LogPosterior
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import Estimator

Value = tuple[float, float | None, str, str]  # value, standard error, status, message


class FunctionTask(NamedTuple):
    """A unit of work.

    Attributes:
        kind: ``sample`` for the draws of one half of a setting, ``train`` for some of its networks, ``quantity`` for
            one quantity of some functions.
        setting: the setting.
        numbers: the half, or numbers of the networks.
        quantity: the quantity.
        functions: the functions, as hexadecimal digits.
    """

    kind: str
    setting: Setting[FrequencyProtocol]
    numbers: tuple[int, ...] = ()
    quantity: FunctionQuantity | None = None
    functions: tuple[str, ...] = ()

    @property
    def keys(self) -> list[Key]:
        """Keys of the rows."""
        if self.kind == "sample":
            return [("sample", self.setting.key, str(self.setting.protocol.seeds), str(half)) for half in self.numbers]
        if self.kind == "train":
            return [trained_key(self.setting, number) for number in self.numbers]
        assert self.quantity is not None
        return [quantity_key(self.setting, self.quantity, function) for function in self.functions]


def context(setting: Setting[FrequencyProtocol]) -> str:
    """Return hexadecimal digits that are equal for settings whose functions have the same quantities."""
    own = setting.protocol
    given = "" if own.training is None else "given training labels"
    parts = (own.data.content_hash, own.architecture.content_hash, given, str(own.seed))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def by_context(settings: Sequence[Setting[FrequencyProtocol]]) -> list[list[Setting[FrequencyProtocol]]]:
    """Group settings whose functions have the same quantities, in order of the first of each group."""
    groups: dict[str, list[Setting[FrequencyProtocol]]] = {}
    for setting in settings:
        groups.setdefault(context(setting), []).append(setting)
    return list(groups.values())


def quantity_key(setting: Setting[FrequencyProtocol], quantity: FunctionQuantity, function: str) -> Key:
    """Return the key of a quantity of a function."""
    return ("quantity", context(setting), quantity.content_hash[:16], function)


def carry_out(task: FunctionTask, folder: Path, progress: ProgressCallback = ignore) -> Rows:
    """Carry out a task.

    Args:
        task: the task.
        folder: folder of the study.
        progress: progress callback.

    Returns:
        its rows, with the versions that computed them.
    """
    rows = {"sample": _sample, "train": _train, "quantity": _quantity}[task.kind](task, folder, progress)
    return with_versions(list(zip(task.keys, rows, strict=True)))


def _sample(task: FunctionTask, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    own = task.setting.protocol
    for half in task.numbers:
        counts = sample_functions(
            own.architecture,
            inputs_of(own).X,
            own.seeds // 2,
            seed=int(generator(task.setting.seed, "choosing" if half == CHOOSING else "counting").integers(2**63)),
            path=str(draws_file(task.setting, half, folder)),
            progress=progress,
        )
        yield {"draws": counts.draws, "distinct": len(counts), "undecided": counts.undecided}


def _train(task: FunctionTask, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    from nngp_prior.sharpness.training.train import train

    own, inputs = task.setting.protocol, inputs_of(task.setting.protocol)
    trained = train(
        own.architecture,
        inputs.X_train,
        inputs.y_train,
        own.training,
        seeds=task.numbers,
        X_test=inputs.X,
        y_test=inputs.y_test,
        seed=task.setting.seed,
        source=own.data.model_dump(mode="json", exclude_none=True),
        checkpoint=folder / "networks" / f"{task.setting.key}-{task.numbers[0]}-{task.numbers[-1]}.npz",
        progress=progress,
    )
    assert trained.test_outputs is not None
    for i, outputs in enumerate(trained.test_outputs):
        yield {
            "status": trained.statuses[i],
            "message": trained.message(i),
            "epochs": int(trained.epochs[i]),
            "inputs": len(outputs),
            "function": to_hex(np.where(outputs > 0, 1, -1).astype(np.int8)) if np.all(outputs) else "",
        }


def _quantity(task: FunctionTask, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    assert task.quantity is not None
    Y = from_hex(task.functions, len(inputs_of(task.setting.protocol).X))
    for value, stderr, status, message in _values(task, task.quantity, Y, folder, progress):
        yield {"value": value, "stderr": stderr, "status": status, "message": message}


def _values(
    task: FunctionTask,
    quantity: FunctionQuantity,
    Y: Int8[np.ndarray, "functions n"],
    folder: Path,
    progress: ProgressCallback,
) -> Sequence[Value]:
    own = task.setting.protocol
    if isinstance(quantity, Complexity):
        return [(complexity(quantity.measure, y), None, "ok", "") for y in Y]
    if isinstance(quantity, SampledLogP) and own.training is None:
        path = folder / "networks" / f"{context(task.setting)}-gp.npz"
        counts = sample_functions(
            own.architecture, inputs_of(own).X, quantity.draws, seed=own.seed, source="gp", path=path, progress=progress
        )
        found = [counts.frequency(y) for y in Y]
        return [(each.value, each.stderr, each.status, "") for each in found]
    inputs = inputs_of(own)
    K, S = KernelCache(folder / "kernels").kernel(own.architecture, inputs.together, progress=progress), inputs.y_train
    match quantity:
        case SampledLogP():
            return _sampled(K, S, Y, quantity, own.seed, progress)
        case LogPosterior():
            given = posterior(K, S, seed=own.seed, particles=quantity.particles, replicates=quantity.replicates)
            return list(map(_value, _each(given.log_probability, Y, progress)))
        case LogP():
            found = _estimates(K, [np.concatenate([S, y]) for y in Y], quantity.estimator, own.seed, progress)
            if own.training is None:
                return list(map(_value, found))
            (of_train,) = _estimates(K[: len(S), : len(S)], [S], quantity.estimator, own.seed, progress)
            return [_value(each, of_train) for each in found]


def _each(log_probability: Any, Y: np.ndarray, progress: ProgressCallback) -> Iterator[Estimate]:
    for done, y in enumerate(Y, start=1):
        yield log_probability(y)
        progress(Progress("labellings", done, len(Y)))


def _estimates(
    K: np.ndarray, Y: list[np.ndarray], estimator: Estimator, seed: int, progress: ProgressCallback
) -> list[Estimate]:
    kernel = prepare(K, estimator)
    return [each for _, each in sorted(compute_all(kernel, Y, estimator, seed, progress))]


def _value(found: Estimate, of_train: Estimate | None = None) -> Value:
    """Value of an estimate; given that of the training labels, of the ratio of both probabilities."""
    if of_train is None:
        return found.value, found.stderr, found.status, found.message
    stderr = None
    if found.stderr is not None and of_train.stderr is not None:
        stderr = math.hypot(found.stderr, of_train.stderr)
    worse = found if found.status != "ok" else of_train
    return found.value - of_train.value, stderr, worse.status, worse.message


def _sampled(
    K: np.ndarray, S: np.ndarray, Y: np.ndarray, quantity: SampledLogP, seed: int, progress: ProgressCallback
) -> list[Value]:
    """Frequencies among samples of independent posteriors, with the standard error of their mean."""
    index = {row.tobytes(): i for i, row in enumerate(pack(Y > 0))}
    size = -(-quantity.draws // quantity.runs)
    fractions = np.zeros((quantity.runs, len(Y)))
    for run in range(quantity.runs):
        own = int(generator(seed, "posterior", run).integers(2**63))
        f = posterior(K, S, seed=own).samples(size, seed=own)[:, len(S) :]
        for row, count in zip(*counted(pack(f > 0), np.ones(size, np.int64)), strict=True):
            if (i := index.get(row.tobytes())) is not None:
                fractions[run, i] = count / size
        progress(Progress("posteriors", run + 1, quantity.runs))
    means, errors = fractions.mean(axis=0), fractions.std(axis=0, ddof=1) / math.sqrt(quantity.runs)
    return [
        (math.log(mean), error / mean, "ok", "") if mean > 0 else (-math.inf, math.inf, "no-hits", "")
        for mean, error in zip(means.tolist(), errors.tolist(), strict=True)
    ]
