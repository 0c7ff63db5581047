"""How tasks of a study are carried out: networks are trained and measured, log P is estimated. Loads JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.execution import with_versions
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.tasks import Task, networks_files, sets_of
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
from nngp_prior.schemas.specs.training import Training
from nngp_prior.sharpness.measurement import measure
from nngp_prior.sharpness.rescaling import rescale
from nngp_prior.sharpness.risk.networks import Parameters
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
    setting = task.setting
    own, path = setting.protocol, networks_files(setting, folder)[0]
    trained = _trained(setting, task.networks, own.training, path, progress)
    test = sets_of(setting).test
    course = [
        _results(each if test is None else replace(each, test_outputs=each.outputs(test[0])))
        for each in _course(setting, trained, folder, progress)
    ]
    for i, result in enumerate(_results(trained)):
        yield {**result, "course": [each[i] for each in course]} if course else result


def _trained(
    setting: Setting[Protocol],
    networks: Sequence[int],
    training: Training,
    path: Path,
    progress: ProgressCallback,
    initial: Parameters | None = None,
) -> Trained:
    own, sets = setting.protocol, sets_of(setting)
    return train(
        own.architecture,
        *sets.train,
        training,
        seeds=networks,
        attack=sets.attack,
        X_test=None if sets.test is None else sets.test[0],
        y_test=None if sets.test is None else sets.test[1],
        initial=initial,
        seed=setting.seed,
        source=own.data.model_dump(mode="json", exclude_none=True),
        checkpoint=path,
        progress=progress,
    )


def _results(trained: Trained) -> list[dict[str, Any]]:
    """Return the results of training of each network."""
    test_error, attack = trained.test_error, trained.history.get("attack_error")
    return [
        {
            "status": trained.statuses[i],
            "message": trained.message(i),
            "epochs": int(trained.epochs[i]),
            "training_loss": float(trained.loss[i]),
            "training_error": float(trained.error[i]),
            "attack_error": None if attack is None else float(attack[trained.epochs[i], i]),
            "test_error": None if test_error is None else float(test_error[i]),
        }
        for i in range(len(trained))
    ]


def _course(
    setting: Setting[Protocol], trained: Trained, folder: Path, progress: ProgressCallback
) -> Iterator[Trained]:
    """Yield the networks at each moment of the course, without test outputs; trains them unless that has been done."""
    own, course = setting.protocol, setting.protocol.course
    if course is None:
        return
    _, *paths = networks_files(setting, folder)
    at = course.epochs if course.rescale_after is None else course.rescale_after

    def on(epochs: int, path: Path, initial: Parameters) -> Trained:
        changes = {"goal": "none", "epochs": epochs, "extra_epochs": 0, "keep_every": course.every}
        training = own.training.model_copy(update=changes)
        return _trained(setting, trained.seeds, training, path, progress, initial)

    def moment(part: Trained, epoch: int, parameters: Parameters) -> Trained:
        history = {name: values[: epoch + 1] for name, values in part.history.items()}
        ended = part.epochs < epoch  # diverged before
        statuses = tuple("diverged" if each else "epochs-spent" for each in ended)
        epochs = np.minimum(part.epochs, epoch)

        def finite(kept: np.ndarray, last: np.ndarray) -> np.ndarray:
            return np.where(ended.reshape(-1, *[1] * (kept.ndim - 1)), last, kept)

        return replace(
            part,
            parameters=jax.tree.map(finite, parameters, part.parameters),
            epochs=epochs,
            statuses=statuses,
            history=history,
            test_outputs=None,
        )

    def moments(part: Trained, epochs: int, initial: Parameters) -> Iterator[Trained]:
        yield moment(part, 0, initial)
        for k, epoch in enumerate(range(course.every, epochs + 1, course.every)):
            kept = k < len(part.kept_epochs)  # training ends early if all networks diverge
            yield moment(part, epoch, jax.tree.map(lambda leaf, k=k: leaf[k], part.kept) if kept else part.parameters)

    before = on(at, paths[0], trained.parameters)
    yield from moments(before, at, trained.parameters)
    if course.rescale_after is not None:
        rescaled = rescale(own.architecture, before.parameters, course.alpha)
        after = on(course.epochs - at, paths[1], rescaled)
        yield from moments(after, course.epochs - at, rescaled)


def _loaded(task: Task, folder: Path) -> tuple[Trained, list[int]]:
    """Return the networks of a setting, and the indices of those of the task."""
    trained = Trained.load(networks_files(task.setting, folder)[0])
    if task.moment is not None:
        trained = next(itertools.islice(_course(task.setting, trained, folder, ignore), task.moment, None))
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
