"""Kernels in files: the same bits as in memory, whatever cuts the work off."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels import disk, tiles
from nngp_prior.kernels.locks import locked
from nngp_prior.kernels.tile_journal import TileJournal, header_beside, journal_path
from nngp_prior.progress import Progress
from tests.kernels.small import with_tiles

X = np.random.default_rng(0).standard_normal((30, 4))
X2 = np.random.default_rng(1).standard_normal((11, 4))
TILES = 10  # of 30 inputs in tiles of 8, symmetric


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "K.npy"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each tile that is computed."""
    return with_tiles(monkeypatch, 8)


class CutOffError(Exception):
    """What a progress callback raises here, in the middle of the work."""


def cut_off_after(count: int):
    def progress(event: Progress) -> None:
        if event.done == count:
            raise CutOffError

    return progress


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("others", [(), (X2,)], ids=["symmetric", "rectangular"])
def test_a_file_is_what_memory_would_be(path: Path, computed: list, others: tuple, dtype: str) -> None:
    expected = kernel(FullyConnected(), X, *others, dtype=dtype)
    count = len(computed)
    K = kernel(FullyConnected(), X, *others, dtype=dtype, path=path)
    assert isinstance(K, np.memmap)
    assert not K.flags.writeable
    assert K.dtype == dtype
    assert np.array_equal(K, expected)
    assert np.array_equal(np.load(path), expected)
    assert sorted(path.parent.iterdir()) == [path, journal_path(path)]
    again = kernel(FullyConnected(), X, *others, dtype=dtype, path=str(path))
    assert np.array_equal(again, expected)
    assert len(computed) == 2 * count


@pytest.mark.parametrize("count", [1, 4, TILES - 1])
def test_what_was_cut_off_is_gone_on_with(path: Path, computed: list, count: int) -> None:
    with pytest.raises(CutOffError):
        kernel(FullyConnected(), X, path=path, progress=cut_off_after(count))
    before = len(computed)
    assert count <= before < TILES + 1
    assert not path.exists()
    events: list[Progress] = []
    K = kernel(FullyConnected(), X, path=path, progress=events.append)
    assert len(computed) == TILES
    told = range(before, TILES + 1) if before < TILES else range(0)
    assert [(event.done, event.total) for event in events] == [(i, TILES) for i in told]
    assert np.array_equal(K, kernel(FullyConnected(), X))


_CHILD = """
import sys
import numpy as np
import pytest
from nngp_prior import FullyConnected, kernel
from tests.kernels.small import with_tiles
with_tiles(pytest.MonkeyPatch(), 30, seconds=0.1)
kernel(FullyConnected(), np.random.default_rng(5).standard_normal((300, 4)), path=sys.argv[1])
"""


def test_a_process_that_is_killed_loses_no_finished_tile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)])
    total = 55
    try:
        deadline = time.monotonic() + 100
        while finished(path) < 7 and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
    kept = finished(path)
    assert 7 <= kept < total
    assert not path.exists()
    computed = with_tiles(monkeypatch, 30)
    inputs = np.random.default_rng(5).standard_normal((300, 4))
    K = kernel(FullyConnected(), inputs, path=path)
    assert len(computed) == total - kept
    assert np.array_equal(K, kernel(FullyConnected(), inputs))


def finished(path: Path) -> int:
    """Number of finished tiles of a file."""
    try:
        with journal_path(path).open("rb") as file:
            ledger = TileJournal.read(file)
            return 0 if ledger is None else len(ledger.header.grid) - len(ledger.missing())
    except FileNotFoundError:
        return 0


@pytest.mark.usefixtures("computed")
def test_cut_off_before_it_was_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(partial: Path, path: Path) -> None:
        raise CutOffError

    with monkeypatch.context() as patch:
        patch.setattr(disk, "_finish", stop)
        with pytest.raises(CutOffError):
            kernel(FullyConnected(), X, path=path)
    assert not path.exists()
    monkeypatch.setattr(disk, "function_of", lambda _: pytest.fail("all of it was there"))
    assert len(kernel(FullyConnected(), X, path=path)) == 30


@pytest.mark.parametrize("part", ["ledger", "half a ledger", "partial", "half a partial"])
def test_a_lost_or_torn_part_is_begun_again(path: Path, computed: list, part: str) -> None:
    with pytest.raises(CutOffError):
        kernel(FullyConnected(), X, path=path, progress=cut_off_after(4))
    of = journal_path(path) if "ledger" in part else disk.partial_path(path)
    if "half" in part:
        of.write_bytes(of.read_bytes()[: of.stat().st_size // 2])
    else:
        of.unlink()
    computed.clear()
    assert np.array_equal(kernel(FullyConnected(), X, path=path), kernel(FullyConnected(), X))
    assert computed[:TILES].count("within") == 4
    assert len(computed) == 2 * TILES


@pytest.mark.usefixtures("computed")
@pytest.mark.parametrize(
    "change",
    [
        {"architecture": FullyConnected(depth=1)},
        {"X": X + 1},
        {"X2": X2},
        {"get": "ntk"},
        {"dtype": "float32"},
    ],
    ids=["architecture", "inputs", "other inputs", "get", "dtype"],
)
def test_another_kernel_is_refused_and_nothing_is_touched(path: Path, change: dict) -> None:
    call = {"architecture": FullyConnected(), "X": X, "path": path}
    with pytest.raises(CutOffError):
        kernel(**call, progress=cut_off_after(4))
    partial = disk.partial_path(path)
    before = partial.read_bytes()
    with pytest.raises(InvalidInput, match="beginning of another kernel") as caught:
        kernel(**call | change)
    assert caught.value.field == "path"
    assert str(journal_path(path)) in caught.value.remedy
    assert partial.read_bytes() == before
    kernel(**call)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="is not the whole kernel of this call") as caught:
        kernel(**call | change)
    assert "another file" in caught.value.remedy
    assert path.read_bytes() == before
    assert np.array_equal(kernel(**call), kernel(FullyConnected(), X))


@pytest.mark.usefixtures("computed")
def test_one_changed_bit_of_a_finished_file_is_refused(path: Path) -> None:
    expected = np.array(kernel(FullyConnected(), X, path=path))
    content = path.read_bytes()
    for bit in (0, 1003, *range(8 * len(content) - 1, 1024, -len(content) // 2)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(InvalidInput, match="is damaged") as caught:
            kernel(FullyConnected(), X, path=path)
        assert caught.value.field == "path"
        assert path.read_bytes() == changed
    path.unlink()  # the remedy
    assert np.array_equal(kernel(FullyConnected(), X, path=path), expected)


def test_a_file_of_somebody_else_is_refused(path: Path) -> None:
    np.save(path, np.eye(30))
    with pytest.raises(InvalidInput, match="is not the whole kernel"):
        kernel(FullyConnected(), X, path=path)
    assert np.array_equal(np.load(path), np.eye(30))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("K.txt", "K.txt"), ("folder.npy", "is a folder"), ("none/K.npy", "cannot be written")],
)
def test_a_place_that_cannot_be(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InvalidInput, match=problem) as caught:
        kernel(FullyConnected(), X, path=tmp_path / name)
    assert caught.value.field == "path"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.npy"]


@pytest.mark.usefixtures("computed")
def test_inputs_that_overflow_leave_nothing(path: Path) -> None:
    inputs = X.copy()
    inputs[20] *= 1e200
    with pytest.raises(InvalidInput, match="input 20 overflows"):
        kernel(FullyConnected(), inputs, path=path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("computed")
def test_who_comes_second_is_told(path: Path) -> None:
    path.with_name("K.npy.tiles").touch()
    with locked(journal_path(path), wait=False), pytest.raises(InvalidInput, match="computed by another process"):
        kernel(FullyConnected(), X, path=path)
    assert len(kernel(FullyConnected(), X, path=path)) == 30


def test_a_disk_that_is_too_small_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**12 + 8 * 20 * 20))
    with pytest.raises(ResourceLimit, match="Use at most 20 inputs") as caught:
        kernel(FullyConnected(), X, path=path)
    assert "disk" in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_is_there(path: Path, computed: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_) -> None:
        if len(computed) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(*_)

    put = disk._put
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_put", fail)
        with pytest.raises(ResourceLimit, match="is full"):
            kernel(FullyConnected(), X, path=path)
    kept = finished(path)
    assert kept > 0
    computed.clear()
    kernel(FullyConnected(), X, path=path)
    assert len(computed) == TILES - kept


def test_other_tiles_go_on_with_the_first_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of tiles is no part of a kernel's hash: what was begun keeps its own."""
    with_tiles(monkeypatch, 8)
    with pytest.raises(CutOffError):
        kernel(FullyConnected(), X, path=path, progress=cut_off_after(4))
    with_tiles(monkeypatch, 15)
    K = kernel(FullyConnected(), X, path=path)
    header = header_beside(path)
    assert header is not None
    assert header.grid == tiles.Grid(30, 30, 8, True)
    assert np.abs(K - kernel(FullyConnected(), X)).max() < 1e-12
