from pathlib import Path

import pytest

from nngp_prior.numerics import checkpoint
from nngp_prior.numerics.checkpoint import Checkpoint

PATH = Path("state.npz")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds; the test moves them."""
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    return now


def test_saves_are_ten_seconds_apart(clock: list[float]) -> None:
    saved = []
    saves = Checkpoint(PATH, lambda path: saved.append((path, clock[0])))
    for clock[0] in range(1, 35):
        saves.save_if_due()
    assert saved == [(PATH, 10), (PATH, 20), (PATH, 30)]
    saves.save()
    assert saved[3:] == [(PATH, 34)]


def test_saving_takes_a_twentieth_of_the_time(clock: list[float]) -> None:
    saved = []

    def save(path: Path) -> None:
        saved.append(clock[0])
        clock[0] += 3

    saves = Checkpoint(PATH, save)
    while clock[0] < 200:
        clock[0] += 1
        saves.save_if_due()
    assert saved == [10, 73, 136, 199]


def test_without_a_file_nothing_is_saved(clock: list[float]) -> None:
    saves = Checkpoint(None, lambda path: pytest.fail("saved"))
    clock[0] = 100.0
    saves.save_if_due()
    saves.save()
