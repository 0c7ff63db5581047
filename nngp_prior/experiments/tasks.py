"""The work of a study in tasks that any process can carry out: training, flatness measures, log P. JAX is loaded then.

A task is a function of a setting and a folder. It returns rows, JSON-compatible, by key; what a row depends on is in
its key, so that a row of an earlier run is the same row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nngp_prior.data.splits import Sets, training_data
from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.execution import with_versions
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Key
from nngp_prior.experiments.workers import Rows
from nngp_prior.kernels import KernelCache
from nngp_prior.probability import compute_all, prepare
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.protocols import LogP, LogPosterior, Protocol, Quantity
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.results.sharpness import Measurement
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS

if TYPE_CHECKING:
    from nngp_prior.sharpness.training.trained import Trained


class Task(NamedTuple):
    """A unit of work.

    Attributes:
        kind: ``train`` for all networks of a setting, ``measure`` or ``log-p`` for one quantity of some of them.
        setting: setting of the networks.
        networks: numbers of the networks.
        quantity: the quantity; None to train.
    """

    kind: str
    setting: Setting[Protocol]
    networks: tuple[int, ...]
    quantity: Quantity | None = None

    @property
    def keys(self) -> list[Key]:
        """Keys of the rows, one per network."""
        own = (self.quantity.content_hash[:16],) if self.quantity is not None else ()
        kernel = self.setting.protocol.kernel
        of_kernel = (kernel.content_hash[:16],) if self.kind == "log-p" and kernel is not None else ()
        return [(self.kind, self.setting.key, str(i), *own, *of_kernel) for i in self.networks]


def carry_out(task: Task, folder: Path, progress: ProgressCallback = ignore) -> Rows:
    """Carry out a task.

    Args:
        task: the task.
        folder: folder of the study.
        progress: progress callback.

    Returns:
        a row for each network, with the versions that computed it. What cannot be computed for a network has a status
        and a message instead of a value.
    """
    rows = {"train": _train, "measure": _measure, "log-p": _log_p}[task.kind](task, folder, progress)
    return with_versions(list(zip(task.keys, rows, strict=True)))


def networks_file(setting: Setting[Protocol], folder: Path) -> Path:
    """Return the path of the trained networks of a setting."""
    return folder / "networks" / f"{setting.key}-{setting.protocol.seeds}.npz"


_sets = functools.lru_cache(maxsize=2)(training_data)


def sets_of(setting: Setting[Protocol]) -> Sets:
    """Return the training, attack and test set of a setting."""
    return _sets(setting.protocol.data)  # pyright: ignore[reportArgumentType]  frozen models are hashable


def _train(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    from nngp_prior.sharpness.training.train import train

    own, sets = task.setting.protocol, sets_of(task.setting)
    trained = train(
        own.architecture,
        *sets.train,
        own.training,
        seeds=task.networks,
        attack=sets.attack,
        X_test=None if sets.test is None else sets.test[0],
        y_test=None if sets.test is None else sets.test[1],
        seed=task.setting.seed,
        source=own.data.model_dump(mode="json", exclude_none=True),
        checkpoint=networks_file(task.setting, folder),
        progress=progress,
    )
    test_error = trained.test_error
    for i in range(len(trained)):
        attack = trained.history.get("attack_error")
        yield {
            "status": trained.statuses[i],
            "message": trained.message(i),
            "epochs": int(trained.epochs[i]),
            "training_loss": float(trained.loss[i]),
            "training_error": float(trained.error[i]),
            "attack_error": None if attack is None else float(attack[trained.epochs[i], i]),
            "test_error": None if test_error is None else float(test_error[i]),
        }


def _loaded(task: Task, folder: Path) -> tuple[Trained, list[int]]:
    """Return the networks of a setting, and the indices of those of the task."""
    from nngp_prior.sharpness.training.trained import Trained

    trained = Trained.load(networks_file(task.setting, folder))
    return trained, [trained.seeds.index(number) for number in task.networks]


def _measure(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    from nngp_prior.sharpness.measurement import measure

    own, sets = task.setting.protocol, sets_of(task.setting)
    trained, places = _loaded(task, folder)
    assert task.quantity is not None
    for i in places:
        if trained.statuses[i] == "diverged":
            yield _without_value("diverged", trained.message(i))
            continue
        try:
            report = measure(
                own.architecture,
                trained.network(i),
                *sets.train,
                [task.quantity],
                loss=own.training.loss,
                seed=own.seed,
                progress=progress,
            )
        except InvalidInput as error:
            yield _without_value("invalid-measure", str(error))
        else:
            yield _with_values(report)


def _log_p(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    assert isinstance(task.quantity, LogP | LogPosterior)
    trained, places = _loaded(task, folder)
    usable = [i for i in places if trained.statuses[i] != "diverged"]
    found = dict(zip(usable, _estimates(task, trained, usable, folder, progress), strict=True)) if usable else {}
    for i in places:
        if i in found:
            yield _with_values({task.quantity.name: found[i]})
        else:
            yield _without_value("diverged", trained.message(i))


def _with_values(found: Mapping[str, Measurement | Estimate]) -> dict[str, Any]:
    values = [
        {"name": name, "value": each.value, "stderr": each.stderr, "status": each.status, "message": each.message}
        for name, each in found.items()
    ]
    return {"values": values, "status": "ok", "message": ""}


def _without_value(status: str, message: str) -> dict[str, Any]:
    return {"values": [], "status": status, "message": message}


def _estimates(
    task: Task, trained: Trained, usable: list[int], folder: Path, progress: ProgressCallback
) -> list[Estimate]:
    """Return the estimates of some networks of a setting."""
    from nngp_prior.kernels.monte_carlo import monte_carlo_kernel
    from nngp_prior.prior.posterior import posterior
    from nngp_prior.prior.uncertain_kernel import log_probability_under
    from nngp_prior.sharpness.training.trained_functions import functions_of

    own, sets, quantity = task.setting.protocol, sets_of(task.setting), task.quantity
    assert isinstance(quantity, LogP | LogPosterior)
    X, labels = functions_of(trained, *sets.train, None if sets.test is None else sets.test[0])
    labels = labels[usable]
    if own.kernel is not None:
        estimated = monte_carlo_kernel(own.architecture, X, own.kernel, state=folder / "kernels", progress=progress)
        if isinstance(quantity, LogP):
            return [
                log_probability_under(estimated, y, quantity.estimator, BOOTSTRAPS, own.seed, progress) for y in labels
            ]
        K = estimated.K
    else:
        K = KernelCache(folder / "kernels").kernel(own.architecture, X, progress=progress)
    if isinstance(quantity, LogPosterior):
        S = sets.train[1]
        given = posterior(K, S, seed=own.seed, particles=quantity.particles, replicates=quantity.replicates)
        return [given.log_probability(y[len(S) :], progress) for y in labels]
    kernel = prepare(K, quantity.estimator)
    return [each for _, each in sorted(compute_all(kernel, list(labels), quantity.estimator, own.seed, progress))]
