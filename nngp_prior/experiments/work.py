"""How tasks of a study are carried out: networks are trained and measured, log P is estimated. Loads JAX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.execution import with_versions
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.tasks import Task, networks_file, sets_of
from nngp_prior.experiments.workers import Rows
from nngp_prior.kernels import KernelCache, monte_carlo_kernel
from nngp_prior.prior.pac_bayes import pac_bayes_bounds
from nngp_prior.prior.posterior import Posterior, posterior
from nngp_prior.prior.uncertain_kernel import log_probability_under
from nngp_prior.probability import compute_all, prepare
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.quantities import (
    LogEvidence,
    LogP,
    LogPosterior,
    PosteriorErrors,
    PriorBound,
)
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.results.posterior import GibbsError
from nngp_prior.schemas.results.sharpness import Measurement
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS, MonteCarlo
from nngp_prior.sharpness.measurement import measure
from nngp_prior.sharpness.training.train import train
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.sharpness.training.trained_functions import functions_of


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
    rows = {"train": _train, "measure": _measure, "prior": _prior}[task.kind](task, folder, progress)
    return with_versions(list(zip(task.keys, rows, strict=True)))


def _train(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
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
    trained = Trained.load(networks_file(task.setting, folder))
    return trained, [trained.seeds.index(number) for number in task.networks]


def _measure(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
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
            yield _row([_value(name, each) for name, each in report.items()])


def _prior(task: Task, folder: Path, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
    trained, places = _loaded(task, folder)
    usable = [i for i in places if trained.statuses[i] != "diverged"]
    found: dict[int, list[dict[str, Any]]] = {}
    problem = ""
    try:
        if usable:
            found = dict(zip(usable, _values(task, trained, usable, folder, progress), strict=True))
    except InvalidInput as error:  # such as training labels of probability 0 under a kernel of low rank
        problem = str(error)
    for i in places:
        if i in found:
            yield _row(found[i])
        elif i in usable:
            yield _without_value("invalid-input", problem)
        else:
            yield _without_value("diverged", trained.message(i))


def _row(values: list[dict[str, Any]]) -> dict[str, Any]:
    return {"values": values, "status": "ok", "message": ""}


def _value(name: str, found: Measurement | Estimate | GibbsError) -> dict[str, Any]:
    """Value of a quantity as JSON-compatible values."""
    status, message = ("ok", "") if isinstance(found, GibbsError) else (found.status, found.message)
    return {"name": name, "value": found.value, "stderr": found.stderr, "status": status, "message": message}


def _without_value(status: str, message: str) -> dict[str, Any]:
    return {"values": [], "status": status, "message": message}


def _values(
    task: Task, trained: Trained, usable: list[int], folder: Path, progress: ProgressCallback
) -> list[list[dict[str, Any]]]:
    """Return the values of a quantity that depends on the kernel, for some networks of a setting."""
    own, sets = task.setting.protocol, sets_of(task.setting)
    X, labels = functions_of(trained, *sets.train, None if sets.test is None else sets.test[0])
    labels, S = labels[usable], sets.train[1]

    def of_posterior(quantity: LogPosterior | PosteriorErrors) -> Posterior:
        K = _kernel(task.setting, X, quantity.kernel, folder, progress)
        return posterior(K, S, seed=own.seed, particles=quantity.particles, replicates=quantity.replicates)

    match task.quantity:
        case LogP(name=name) as quantity:
            found = _estimates(task.setting, X, labels, quantity, folder, progress)
            return [[_value(name, each)] for each in found]
        case LogPosterior(name=name) as quantity:
            given = of_posterior(quantity)
            return [[_value(name, given.log_probability(y[len(S) :], progress))] for y in labels]
        case LogEvidence(name=name) as quantity:
            (estimate,) = _estimates(task.setting, X, S[None], quantity, folder, progress)
            return [[_value(name, estimate)]] * len(usable)
        case PriorBound(name=name) as quantity:
            (estimate,) = _estimates(task.setting, X, S[None], quantity, folder, progress)
            bound = pac_bayes_bounds(estimate, quantity.delta)[quantity.inequality]
            state = {"status": "ok", "message": ""} if bound.is_bound else {"status": "no-bound", "message": str(bound)}
            return [[{"name": name, "value": bound.value, "stderr": None, **state}]] * len(usable)
        case PosteriorErrors() as quantity:
            if sets.test is None:
                return [[]] * len(usable)
            given = of_posterior(quantity)
            gibbs, vote = given.gibbs_error(sets.test[1]), given.vote_error(sets.test[1])
            spread = (vote.high - vote.low) / 2
            both = [
                _value("gibbs_error", gibbs),
                {**_value("vote_error", gibbs), "value": vote.value, "stderr": spread},
            ]
            return [both] * len(usable)
        case other:
            raise AssertionError(other)


def _kernel(
    setting: Setting[Protocol],
    X: np.ndarray,
    specification: MonteCarlo | None,
    folder: Path,
    progress: ProgressCallback,
) -> np.ndarray:
    architecture = setting.protocol.architecture
    if specification is None:
        return KernelCache(folder / "kernels").kernel(architecture, X, progress=progress)
    return monte_carlo_kernel(architecture, X, specification, state=folder / "kernels", progress=progress).K


def _estimates(
    setting: Setting[Protocol],
    X: np.ndarray,
    labels: np.ndarray,
    quantity: LogP | LogEvidence | PriorBound,
    folder: Path,
    progress: ProgressCallback,
) -> list[Estimate]:
    """Return the estimates of log P of some labellings of the first inputs."""
    seed, estimator, m = setting.protocol.seed, quantity.estimator, labels.shape[1]
    specification = None if isinstance(quantity, PriorBound) else quantity.kernel
    if specification is None:  # of all inputs, since other quantities need it
        kernel = prepare(_kernel(setting, X, None, folder, progress)[:m, :m], estimator)
        return [each for _, each in sorted(compute_all(kernel, list(labels), estimator, seed, progress))]
    K = monte_carlo_kernel(
        setting.protocol.architecture, X[:m], specification, state=folder / "kernels", progress=progress
    )
    return [log_probability_under(K, y, estimator, BOOTSTRAPS, seed, progress) for y in labels]
