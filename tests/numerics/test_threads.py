import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info

from nngp_prior import log_probabilities, log_probability
from nngp_prior.numerics.threads import cores, on_all_cores, one_thread_blas, use_cores
from nngp_prior.progress import Progress
from tests.cases import equicorrelated


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def in_thread(work: Callable[[], object]) -> None:
    """A limit of a thread that lives would hold against all later ones."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    """Two threads for BLAS, whatever the environment says: a limit of one can be seen."""
    limits = []
    in_thread(lambda: limits.append(ThreadpoolController().limit(limits=2, user_api="blas")))
    yield
    in_thread(limits.pop().restore_original_limits)


def test_results_come_with_their_places_as_they_finish() -> None:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return 2 * seconds

    pairs = list(on_all_cores(work, [0.2, 0.0], threads=2))
    assert pairs == [(1, 0.0), (0, 0.4)]


def test_calls_within_a_call_stay_in_its_thread() -> None:
    def inner(_: int) -> int:
        return threading.get_ident()

    def outer(_: int) -> tuple[int, list[tuple[int, int]]]:
        return threading.get_ident(), list(on_all_cores(inner, range(3), threads=2))

    for _, (own, within) in on_all_cores(outer, range(2), threads=2):
        assert within == [(place, own) for place in range(3)]


@pytest.mark.usefixtures("two_blas_threads")
def test_the_limit_of_blas_ends_with_its_last_user() -> None:
    before = _blas_threads()
    first, second = one_thread_blas(), one_thread_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _blas_threads() == {1}
    second.__exit__(None, None, None)
    assert _blas_threads() == before


@pytest.mark.usefixtures("two_blas_threads")
def test_the_limit_of_blas_holds_whoever_asked_first() -> None:
    """Threadpoolctl alone ignores a thread's wish while another one that lives has set a limit."""
    before = _blas_threads()
    with one_thread_blas():
        pass
    seen = []

    def ask() -> None:
        with one_thread_blas():
            seen.append(_blas_threads())

    in_thread(ask)
    assert seen == [{1}]
    assert _blas_threads() == before


@pytest.mark.usefixtures("two_blas_threads")
def test_a_failure_ends_the_rest() -> None:
    before, stop, begun = _blas_threads(), threading.Event(), []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError("no")
        stop.wait(10)

    with pytest.raises(ValueError, match="no"):
        list(on_all_cores(work, range(50), threads=2, stop=stop))
    assert stop.is_set()
    assert len(begun) < 50
    assert _blas_threads() == before


def test_a_batch_that_is_left_early_stops() -> None:
    labels = np.where(np.random.default_rng(0).random((40, 30)) < 0.5, -1, 1)
    events: list[Progress] = []
    results = log_probabilities(equicorrelated(30, 0.5), labels, as_completed=True, progress=events.append)
    place, estimate = next(results)
    assert estimate == log_probability(equicorrelated(30, 0.5), labels[place]).model_copy(
        update={"seconds": estimate.seconds}
    )
    results.close()
    assert [(event.stage, event.done) for event in events] == [("labellings", 0), ("labellings", 1)]
    assert threading.active_count() < 5


@pytest.mark.usefixtures("two_blas_threads")
def test_no_more_cores_are_used_than_allowed() -> None:
    before, there = _blas_threads(), cores()

    def thread(_: int) -> int:
        return threading.get_ident()

    with use_cores(1):
        assert cores() == 1
        assert _blas_threads() == {1}
        with one_thread_blas():
            pass
        assert _blas_threads() == {1}
        assert {ident for _, ident in on_all_cores(thread, range(4))} == {threading.get_ident()}
    assert cores() == there
    assert _blas_threads() == before
    with use_cores(10**6):
        assert cores() == there
        assert max(_blas_threads()) <= there
    with use_cores(0):
        assert cores() == there
        assert _blas_threads() == before
