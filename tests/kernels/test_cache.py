import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels import KernelCache, job
from nngp_prior.kernels.disk import partial_path
from nngp_prior.kernels.tile_journal import journal_path
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.architecture import Convolutional
from nngp_prior.versions import versions
from tests.kernels.small import with_tiles

X = np.random.default_rng(0).standard_normal((30, 4))
TILES = 10
SIZE = 8 * 30 * 30 + 128


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return with_tiles(monkeypatch, 8)


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path / "kernels", 10**6)


def used(cache: KernelCache, inputs: np.ndarray, seconds: int) -> str:
    """Put a kernel into the cache, last used so many seconds after the epoch; returns its key."""
    before = {entry.header.key for entry in cache.entries()}
    cache.kernel(FullyConnected(), inputs)
    (key,) = {entry.header.key for entry in cache.entries()} - before
    os.utime(journal_path(cache.path(key)), (seconds, seconds))
    return key


def keys(cache: KernelCache) -> list[str]:
    return [entry.header.key for entry in cache.entries()]


def test_computes_once(cache: KernelCache, computed: list) -> None:
    expected = kernel(FullyConnected(), X)
    computed.clear()
    for _ in range(3):
        assert np.array_equal(cache.kernel(FullyConnected(), X), expected)
    assert len(computed) == TILES
    assert np.array_equal(KernelCache(cache.folder).kernel(FullyConnected(), X.tolist()), expected)
    assert len(computed) == TILES


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": FullyConnected(bias_std=0.2)},
        {"X": np.nextafter(X, 9)},
        {"X": X.reshape(60, 2)},
        {"X2": X},
        {"get": "ntk"},
        {"dtype": "float32"},
    ],
    ids=["architecture", "one bit", "shape", "X2", "get", "dtype"],
)
def test_another_kernel_is_another_entry(cache: KernelCache, change: dict) -> None:
    call = {"architecture": FullyConnected(), "X": X}
    cache.kernel(**call)
    K = cache.kernel(**call | change)
    assert np.array_equal(K, kernel(**call | change))
    assert len(cache.entries()) == 2


def test_other_versions_are_another_entry(cache: KernelCache, computed: list, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.kernel(FullyConnected(), X)
    computed.clear()
    monkeypatch.setattr(job, "versions", lambda: {**versions(), "matfree": "another"})
    cache.kernel(FullyConnected(), X)
    assert computed == []  # no kernel depends on that
    monkeypatch.setattr(job, "versions", lambda: {**versions(), "jaxlib": "another"})
    cache.kernel(FullyConnected(), X)
    assert len(computed) == TILES
    assert len(cache.entries()) == 2


def test_images_are_not_their_transposes(cache: KernelCache) -> None:
    images = np.random.default_rng(0).random((3, 4, 6))
    cache.kernel(Convolutional(), images)
    cache.kernel(Convolutional(), images.reshape(3, 6, 4))
    assert len(cache.entries()) == 2


def test_entries_say_what_they_are(cache: KernelCache) -> None:
    cache.kernel(FullyConnected(depth=1), X, about={"dataset": {"kind": "digits"}})
    (entry,) = cache.entries()
    assert (entry.header.grid.n, entry.header.dtype, entry.bytes, entry.finished) == (30, "float64", SIZE, True)
    assert entry.header.about["architecture"] == FullyConnected(depth=1).model_dump(mode="json")
    assert entry.header.about["dataset"] == {"kind": "digits"}
    assert entry.path == cache.path(entry.header.key)


@pytest.mark.parametrize(
    "damage", ["cut off", "one bit", "mirror image", "header", "byte order", "empty", "gone", "no ledger"]
)
def test_a_damaged_entry_is_noticed_and_computed_again(cache: KernelCache, computed: list, damage: str) -> None:
    expected = np.array(cache.kernel(FullyConnected(), X))
    (entry,) = cache.entries()
    content = bytearray(entry.path.read_bytes())
    match damage:
        case "cut off":
            content = content[:-9]
        case "one bit":
            content[-3] ^= 1
        case "mirror image":
            content[128 + 8 * 30 * 29] ^= 1  # K[29, 0], which is not computed but copied
        case "header":
            content[9] ^= 255
        case "byte order":
            content[content.index(b"<f8")] ^= 2  # ">"
        case "empty":
            content.clear()
    entry.path.unlink()
    if damage == "no ledger":
        journal_path(entry.path).unlink()
    if damage != "gone":
        entry.path.write_bytes(content)
    computed.clear()
    assert np.array_equal(cache.kernel(FullyConnected(), X), expected)
    assert len(computed) == TILES
    assert np.array_equal(cache.kernel(FullyConnected(), X), expected)
    assert len(computed) == TILES


def flipped(path: Path, bit: int) -> bytes:
    """Flip one bit of a file; returns what it was before."""
    before = path.read_bytes()
    content = bytearray(before)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return before


@pytest.mark.parametrize("X2", [None, X[:7] + 1], ids=["symmetric", "rectangular"])
def test_no_bit_of_a_ledger_or_header_changes_a_number(cache: KernelCache, X2: np.ndarray | None) -> None:
    """Bits of all places in a byte, and of every field; slow tests flip a thousand of each file."""
    inputs = X[:9]
    expected = np.array(cache.kernel(FullyConnected(), inputs, X2))
    (entry,) = cache.entries()
    key, bits = entry.header.key, {journal_path(entry.path): None, entry.path: 8 * 128}
    for path, end in bits.items():
        for bit in range(0, end or 8 * path.stat().st_size, 97):
            flipped(path, bit)
            if cache.entry(key) is not None and path == entry.path:
                with pytest.raises(InvalidInput, match="is damaged"):
                    cache.open(key)
            assert np.array_equal(cache.kernel(FullyConnected(), inputs, X2), expected)
            assert np.array_equal(cache.open(key), expected)


@pytest.mark.parametrize("where", ["tile", "mirror image", "mark", "open mark"])
def test_a_damaged_tile_of_an_unfinished_entry_is_computed_again(
    cache: KernelCache, computed: list, where: str
) -> None:
    def stop(event: Progress) -> None:
        if event.done == 3:
            raise CutOffError

    expected = kernel(FullyConnected(), X)
    with pytest.raises(CutOffError):
        cache.kernel(FullyConnected(), X, progress=stop)
    (entry,) = cache.entries()
    partial, ledger = partial_path(entry.path), journal_path(entry.path)
    marks = ledger.stat().st_size - 8 * TILES
    match where:
        case "tile":
            flipped(partial, 8 * (128 + 8 * 3) + 5)  # K[0, 3]
        case "mirror image":
            flipped(partial, 8 * (128 + 8 * 30 * 10) + 5)  # K[10, 0]
        case "mark":
            flipped(ledger, 8 * marks)
        case "open mark":
            flipped(ledger, 8 * (marks + 8 * TILES - 1))
    assert np.array_equal(cache.kernel(FullyConnected(), X), expected)


def test_what_has_no_ledger_that_can_be_read_goes_first(cache: KernelCache) -> None:
    cache.kernel(FullyConnected(), X)
    (entry,) = cache.entries()
    flipped(journal_path(entry.path), 100)
    assert cache.entries() == []
    assert cache.path(entry.header.key).exists()
    cache.kernel(FullyConnected(), X + 1)
    assert not cache.path(entry.header.key).exists()
    assert len(list(cache.folder.iterdir())) == 2


def test_the_least_recently_used_go_first(cache: KernelCache) -> None:
    old, older, new = (used(cache, X + i, seconds) for i, seconds in enumerate((200, 100, 300)))
    assert keys(cache) == [new, old, older]
    cache.kernel(FullyConnected(), X + 1)  # used now
    assert keys(cache) == [older, new, old]
    removed = cache.evict(2 * SIZE)
    assert [entry.header.key for entry in removed] == [old]
    assert keys(cache) == [older, new]
    assert len(list(cache.folder.iterdir())) == 4
    assert cache.evict(2 * SIZE) == []
    assert len(cache.evict(0)) == 2
    assert list(cache.folder.iterdir()) == []


def test_the_limit_is_kept(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path, 2 * SIZE)
    first, second, third = (used(cache, X + i, seconds) for i, seconds in enumerate((100, 200, 300)))
    assert keys(cache) == [third, second]
    assert not cache.path(first).exists()


def test_what_is_larger_than_the_cache_is_computed_in_memory(tmp_path: Path) -> None:
    K = KernelCache(tmp_path / "none", 0).kernel(FullyConnected(), X)
    assert np.array_equal(K, kernel(FullyConnected(), X))
    assert not isinstance(K, np.memmap)
    assert list(tmp_path.iterdir()) == []


def test_what_is_used_stays(cache: KernelCache) -> None:
    K = cache.kernel(FullyConnected(), X)
    part = K[3:, 2]
    assert cache.evict(0) == []
    del K
    assert cache.evict(0) == []
    assert part.sum() == kernel(FullyConnected(), X)[3:, 2].sum()
    del part
    assert len(cache.evict(0)) == 1


def test_entries_go_where_only_writers_get_exclusive_locks(cache: KernelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS."""
    flock = fcntl.flock

    def of_nfs(file: IO[bytes], operation: int) -> None:
        if operation & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, operation)

    cache.kernel(FullyConnected(), X)
    monkeypatch.setattr(fcntl, "flock", of_nfs)
    assert len(cache.evict(0)) == 1


def test_what_is_computed_stays(cache: KernelCache, computed: list) -> None:
    seen = []
    cache.kernel(FullyConnected(), X, progress=lambda _: seen.append(cache.evict(0)))
    assert seen == [[]] * (1 + TILES)
    assert len(computed) == TILES


class CutOffError(Exception):
    """What a progress callback raises."""


def test_what_was_cut_off_is_listed_gone_on_with_and_removed(cache: KernelCache, computed: list) -> None:
    def stop(_) -> None:
        raise CutOffError

    for again in (True, False):
        with pytest.raises(CutOffError):
            cache.kernel(FullyConnected(), X, progress=stop)
        (entry,) = cache.entries()
        assert not entry.finished
        assert partial_path(entry.path).exists()
        with pytest.raises(InvalidInput, match="0 kernels"):
            cache.find(entry.header.key)
        done = len(computed)
        if again:
            cache.kernel(FullyConnected(), X)
            assert len(computed) == TILES
            assert done < TILES
        assert len(cache.evict(0)) == 1
        assert list(cache.folder.iterdir()) == []


def test_finding_by_the_beginning_of_a_key(cache: KernelCache) -> None:
    first, second = used(cache, X, 1), used(cache, X + 1, 2)
    assert cache.find(first[:20]).header.key == first
    assert np.array_equal(cache.open(second), kernel(FullyConnected(), X + 1))
    for key in ("", "xyz"):
        with pytest.raises(InvalidInput, match="key that begins with"):
            cache.find(key)


_CHILD = """
import sys, time
import numpy as np
import pytest
from pathlib import Path
from nngp_prior import FullyConnected
from nngp_prior.kernels import KernelCache, job
from tests.kernels.small import with_tiles
computed = with_tiles(pytest.MonkeyPatch(), 8, seconds=0.1)
Path(sys.argv[2]).touch()
while len(list(Path(sys.argv[2]).parent.glob("ready*"))) < 2:
    time.sleep(0.01)
K = KernelCache(Path(sys.argv[1]), 10**6).kernel(FullyConnected(), np.random.default_rng(0).standard_normal((30, 4)))
print(len(computed), repr(float(K.sum())))
"""


def test_two_processes_compute_an_entry_once(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path / "kernels"), str(tmp_path / f"ready{i}")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    results = [child.communicate(timeout=100)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(int(count) for count, _ in results) == [0, TILES]
    assert results[0][1] == results[1][1]
    # Other tiles are other shapes, which may be rounded otherwise.
    assert float(results[0][1]) == pytest.approx(float(np.array(kernel(FullyConnected(), X)).sum()), rel=1e-14)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="NNGP_CACHE_BYTES=0") as caught:
        KernelCache(tmp_path / "file" / "kernels").kernel(FullyConnected(), X)
    assert caught.value.field == "NNGP_HOME"


def test_a_disk_that_is_too_small(cache: KernelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**12 + 8 * 10 * 10))
    with pytest.raises(ResourceLimit, match=r"Use at most 10 inputs.*NNGP_CACHE_BYTES=0"):
        cache.kernel(FullyConnected(), X)
