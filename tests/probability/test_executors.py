"""Labellings in tasks of an executor: values of one process, one file per kernel, errors."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import log_probabilities
from nngp_prior.errors import InvalidKernel, InvalidLabels
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.estimator import SMC
from tests.executors.cases import Serial

N, COUNT = 12, 20


def random_covariance(n: int) -> np.ndarray:
    A = np.random.default_rng(0).standard_normal((n, n))
    return A @ A.T / n + np.eye(n)


def labellings(count: int = COUNT, n: int = N) -> np.ndarray:
    return np.random.default_rng(1).choice([-1, 1], size=(count, n))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNGP_SHARED", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("method", "options", "Y"),
    [
        (SMC(particles=16), {}, labellings()),
        ("smc", {"particles": 16, "classes": 3}, np.random.default_rng(2).integers(0, 3, size=(5, N))),
        ("ep", {"noise_variance": 0.1}, labellings() > 0),
    ],
)
def test_values_do_not_depend_on_the_executor(folder: Path, method: Any, options: Any, Y: np.ndarray) -> None:
    K = random_covariance(N)
    found = log_probabilities(K, Y, method, seed=3, executor=Serial(), **options)
    assert found == log_probabilities(K, Y, method, seed=3, **options)
    assert list(folder.iterdir()) == []


def test_tasks_are_small_and_balanced(folder: Path) -> None:
    n = 60
    executor, events = Serial(), list[Progress]()
    pairs = log_probabilities(
        random_covariance(n), labellings(32, n), "ep", executor=executor, as_completed=True, progress=events.append
    )
    assert sorted(place for place, _ in pairs) == list(range(32))
    assert executor.submitted == 16
    assert executor.bytes < 16 * 5_000 < 8 * n * n * 16
    assert [event.done for event in events] == list(range(33))
    assert events[0].cost is not None


def test_threads_and_a_closed_iterator(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pairs = log_probabilities(random_covariance(N), labellings(60), "smc", executor=pool, as_completed=True)
        next(pairs)
        pairs.close()  # pyright: ignore[reportAttributeAccessIssue]
        assert pool.submit(int).result() == 0
    assert list(folder.iterdir()) == []


def test_errors_of_workers(folder: Path) -> None:
    K, Y = random_covariance(N), labellings()
    with pytest.raises(InvalidKernel, match="K"):
        log_probabilities(-K, Y, executor=Serial())
    executor = Serial()
    with pytest.raises(InvalidLabels, match=r"Y\[1\]"):
        log_probabilities(K, [Y[0], Y[1] * 2], executor=executor)
    assert executor.submitted == 0
    assert list(folder.iterdir()) == []
