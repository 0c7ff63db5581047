"""Small calls of every function that takes an executor, an executor in this process, and tasks that fail."""

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from typing_extensions import override

from nngp_prior import (
    FromNetwork,
    FullyConnected,
    MonteCarlo,
    kernel,
    log_probabilities,
    monte_carlo_kernel,
    sample_functions,
)
from nngp_prior.errors import InvalidKernel
from nngp_prior.progress import ProgressOption
from nngp_prior.sharpness import EntropySGD, Trained, Training, measure_networks, train

ARCHITECTURE = FullyConnected(depth=1, width=5)


class Serial(Executor):
    """Carries out tasks when they are submitted, in this process, from their pickled form."""

    def __init__(self) -> None:
        self.bytes = 0
        self.submitted = 0

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        task = pickle.dumps((fn, args, kwargs))
        self.bytes += len(task)
        fn, args, kwargs = pickle.loads(task)
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(fn(*args, **kwargs))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


class Failing(Serial):
    """Executor whose tasks fail with an exception of its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(self._error)
        return future


def die(*_: Any) -> None:
    """End the process without notice."""
    os._exit(1)


def refuse(*_: Any) -> None:
    """Raise an error of this package, with its fields."""
    raise InvalidKernel("K", "is no covariance", "Pass another.")


def wait_for(path: str) -> str:
    """Return once a file exists."""
    while not Path(path).exists():
        time.sleep(0.02)
    return path


def inputs(n: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d))


def labels(n: int) -> np.ndarray:
    return np.where(np.random.default_rng(1).random(n) < 0.5, -1, 1)


def covariance(n: int = 12) -> np.ndarray:
    A = np.random.default_rng(0).standard_normal((n, n))
    return A @ A.T / n + np.eye(n)


def own_init(key: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
    return (shape[0], 1), jax.random.normal(key, (shape[1], 1))


def own_apply(parameters: Any, X: Any) -> Any:
    return X @ parameters


def own_kernel(X: Any, X2: Any, get: str) -> Any:
    return X @ (X if X2 is None else X2).T


OWN = FromNetwork(own_init, own_apply, own_kernel, name="linear")


def network_arrays(trained: Trained) -> list[Any]:
    """Return all results of training, NaN included, in a form that can be compared."""
    arrays = [trained.parameters, trained.kept, dict(trained.history), trained.test_outputs, trained.test_labels]
    arrays += [trained.epochs, trained.reached, trained.kept_epochs]
    found = [(str(leaf.dtype), leaf.shape, leaf.tobytes()) for leaf in jax.tree.leaves(arrays)]
    return [found, trained.seeds, trained.statuses, trained.about]


def _kernel(executor: Executor | None, progress: ProgressOption) -> Any:
    X = inputs(1_030)  # three tiles
    X[3] = X[-1]
    return kernel(ARCHITECTURE, X, executor=executor, progress=progress).tobytes()


def _kernel_of_both(executor: Executor | None, progress: ProgressOption) -> Any:
    X = inputs(1_030)
    return kernel(ARCHITECTURE, X, X[:7], get="ntk", dtype="float32", executor=executor, progress=progress).tobytes()


def _kernel_of_own(executor: Executor | None, progress: ProgressOption) -> Any:
    return kernel(OWN, inputs(300), executor=executor, progress=progress).tobytes()


def _monte_carlo(executor: Executor | None, progress: ProgressOption) -> Any:
    X = inputs(9)
    X[3] = X[-1]
    found = monte_carlo_kernel(ARCHITECTURE, X, MonteCarlo(networks=7, batches=3), executor=executor, progress=progress)
    return found.K.tobytes(), found.stderr.tobytes(), found.rank_limit


def _labellings(executor: Executor | None, progress: ProgressOption) -> Any:
    Y = np.random.default_rng(1).choice([-1, 1], size=(20, 12))
    return log_probabilities(covariance(), Y, "smc", particles=16, executor=executor, progress=progress)


def _samples(executor: Executor | None, progress: ProgressOption, source: str = "networks") -> Any:
    found = sample_functions(ARCHITECTURE, inputs(6), 9_000, source=source, executor=executor, progress=progress)
    return found.functions.tobytes(), found.counts.tolist(), found.undecided, found.about


def _samples_of_gp(executor: Executor | None, progress: ProgressOption) -> Any:
    return _samples(executor, progress, "gp")


def _training(executor: Executor | None, progress: ProgressOption) -> Any:
    X, y = inputs(12), labels(12)
    training = Training(optimizer=EntropySGD(), epochs=4, batch_size=6, keep_every=1)
    test = {"X_test": X[:5] + 0.1, "y_test": y[:5], "attack": (X[:2] + 0.2, -y[:2])}
    return network_arrays(
        train(ARCHITECTURE, X, y, training, seeds=range(1, 18), seed=3, executor=executor, progress=progress, **test)
    )


def _training_from_given(executor: Executor | None, progress: ProgressOption) -> Any:
    X, y = inputs(12), labels(12)
    drawn = train(ARCHITECTURE, X, y, Training(epochs=0), seeds=17, seed=4).parameters
    training = Training(epochs=2, goal="none")
    return network_arrays(
        train(ARCHITECTURE, X, y, training, seeds=17, initial=drawn, executor=executor, progress=progress)
    )


def _measures(executor: Executor | None, progress: ProgressOption) -> Any:
    X, y = inputs(12), labels(12)
    trained = train(ARCHITECTURE, X, y, Training(epochs=0), seeds=18)
    measures = ["fisher-trace", "relative-flatness"]
    reports = measure_networks(ARCHITECTURE, trained, X, y, measures, executor=executor, progress=progress)
    unlike = {"seconds": 0.0}
    return [[each.model_copy(update=unlike) for each in report.measurements] for report in reports]


CALLS: dict[str, Callable[[Executor | None, ProgressOption], Any]] = {
    "kernel": _kernel,
    "kernel of X and X2": _kernel_of_both,
    "kernel of one's own network": _kernel_of_own,
    "monte_carlo_kernel": _monte_carlo,
    "log_probabilities": _labellings,
    "sample_functions": _samples,
    "sample_functions of the process": _samples_of_gp,
    "train": _training,
    "train from given parameters": _training_from_given,
    "measure_networks": _measures,
}
