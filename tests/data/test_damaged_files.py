"""Files with bytes changed or cut off: the same data, or an error of ours, and never another exception.

Checksums of compressed files and archives find every change. Plain files have none: there a change of a pixel or label
to another valid one goes unnoticed (in ``.npy`` files also of the type to one as large), and nothing else may.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nngp_prior.data import image_files, load, load_file
from nngp_prior.data.datasets import Data
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.specs.data import Cifar10, Mnist
from tests.data.idx_files import cifar_batch, idx_bytes, write_archive

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (2, 28, 28), dtype=np.uint8)
RGB = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([7, 2], dtype=np.uint8)


class Sample(NamedTuple):
    """A small file: where it goes, how it is read, whether it has checksums, and the length of its header."""

    path: str
    read: Callable[[Path], Data]
    checked: bool = True
    header: int = 0


def own(path: Path) -> Data:
    return load_file(path)


SAMPLES = {
    "idx.gz": Sample("mnist/train-images-idx3-ubyte.gz", lambda _: load(Mnist())),
    "idx": Sample("mnist/train-labels-idx1-ubyte", lambda _: load(Mnist()), False, 8),
    "batch": Sample("cifar10/test_batch.bin", lambda _: load(Cifar10(split="test")), False),
    "npz": Sample("cifar10/cifar10_train.npz", lambda _: load(Cifar10())),
    "own npz": Sample("own.npz", own),
    "own npy": Sample("own.npy", own, False),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder in ("mnist", "cifar10"):
        (root / folder).mkdir()
    (root / SAMPLES["idx.gz"].path).write_bytes(gzip.compress(idx_bytes(GREY)))
    (root / SAMPLES["idx"].path).write_bytes(idx_bytes(LABELS))
    (root / SAMPLES["batch"].path).write_bytes(cifar_batch(RGB, LABELS))
    write_archive(root / SAMPLES["npz"].path, images=RGB, labels=LABELS, index=np.arange(2))
    np.savez(root / "own.npz", images=RNG.standard_normal((3, 2)), labels=np.array([1, -1, 1]))
    np.save(root / "own.npy", np.arange(6.0).reshape(3, 2))
    return root


@pytest.fixture(autouse=True)
def _use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(root))
    monkeypatch.setattr(image_files, "_BATCH", 2)


def outcome(sample: Sample, path: Path, content: bytes) -> Data | None:
    """What is read from the damaged file, None if it is refused; the file is whole again afterwards."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        return sample.read(path)
    except (DataUnavailable, InvalidInput) as error:
        message = str(error)
    finally:
        path.write_bytes(whole)
    assert str(path.parent) in message
    assert "\n" not in message
    return None


def same(first: Data, second: Data) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


QUIET = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(QUIET, max_examples=15)  # what follows the end, and what is no such file at all, is read in few ways


@pytest.mark.parametrize("name", SAMPLES)
@QUIET
@given(data=st.data())
def test_a_changed_byte(root: Path, name: str, data: st.DataObject) -> None:
    sample = SAMPLES[name]
    path = root / sample.path
    content, before = bytearray(path.read_bytes()), sample.read(path)
    changes = data.draw(st.dictionaries(st.integers(0, len(content) - 1), st.integers(1, 255), min_size=1, max_size=3))
    for place, change in changes.items():
        content[place] ^= change
    read = outcome(sample, path, bytes(content))
    if read is None or same(read, before):
        return
    assert not sample.checked
    assert max(changes) >= sample.header
    assert read.X.size == before.X.size
    assert np.isfinite(read.X).all()


@pytest.mark.parametrize("change", [0x01, 0x80])
def test_each_byte_of_an_archive_in_turn(root: Path, change: int) -> None:
    """Also those of the archive's directory, where a changed name would make the labels vanish."""
    sample = SAMPLES["own npz"]
    path = root / sample.path
    whole, before = path.read_bytes(), sample.read(path)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= change
        read = outcome(sample, path, bytes(content))
        assert read is None or same(read, before), place


@pytest.mark.parametrize("name", SAMPLES)
@QUIET
@given(data=st.data())
def test_a_file_cut_off(root: Path, name: str, data: st.DataObject) -> None:
    sample = SAMPLES[name]
    path = root / sample.path
    content = path.read_bytes()
    kept = data.draw(st.integers(0, len(content) - 1))
    assert outcome(sample, path, content[:kept]) is None


@pytest.mark.parametrize("name", SAMPLES)
@FEW
@given(more=st.binary(min_size=1, max_size=20))
def test_a_file_with_more_behind_its_end(root: Path, name: str, more: bytes) -> None:
    sample = SAMPLES[name]
    path = root / sample.path
    before = sample.read(path)
    read = outcome(sample, path, path.read_bytes() + more)
    assert read is None or (sample.checked and same(read, before))


@pytest.mark.parametrize("name", SAMPLES)
@FEW
@given(content=st.binary(max_size=200))
def test_any_bytes_at_all(root: Path, name: str, content: bytes) -> None:
    sample = SAMPLES[name]
    assert outcome(sample, root / sample.path, content) is None
