"""Reading ``.npy`` files strictly, beside NumPy's reader."""

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data.npy import read_header, read_npy, read_npz
from nngp_prior.errors import DataUnavailable

GOOD = np.arange(12, dtype=np.float64).reshape(3, 4)


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    size = 2 if version == b"\x01\x00" else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text.encode()


@pytest.mark.parametrize(
    "array",
    [
        GOOD,
        np.asfortranarray(GOOD),
        GOOD.astype(">f4"),
        GOOD.astype(">i8"),
        np.array(3.5),
        np.zeros((0, 4)),
        np.ones(7, dtype=bool),
        np.arange(5, dtype=np.uint8),
        np.array(["a", "bc"]),
        GOOD + 1j,
        GOOD.astype(np.float16),
        np.zeros((2, 1, 3, 1, 2), dtype=np.int16),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_gives_what_numpy_gives(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", one=array, other=GOOD)
    np.savez_compressed(tmp_path / "b.npz", one=array)
    for read in (
        read_npy(tmp_path / "a.npy"),
        read_npz(tmp_path / "a.npz", "one")["one"],
        read_npz(tmp_path / "b.npz", "one", "absent")["one"],
    ):
        expected = np.load(tmp_path / "a.npy")
        assert np.array_equal(read, expected)
        assert read.dtype == expected.dtype.newbyteorder("=")
        assert read.shape == expected.shape
        assert read.flags.aligned
        assert read.dtype.isnative


def test_reads_later_versions_and_headers_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, GOOD, version=(2, 0))
    assert np.array_equal(read_npy(path), GOOD)
    path.write_bytes(header("{'descr': '<f8', 'fortran_order': False, 'shape': (12,)}") + GOOD.tobytes())
    assert np.array_equal(read_npy(path), GOOD.ravel())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "starts with nothing"),
        (b"hello world", "starts with 68656c6c6f20776f"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }"), "has 0 bytes where .* make 96"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }") + bytes(16), "has 16 bytes where"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }"), "has 0 bytes"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }"), "no header of one plain array"),
        (header("{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }"), "type <f3"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + bytes(8), "Python objects"),
        (header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }") + bytes(8), "no header"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2 3), }"), "shape"),
        (header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'1, ' * 99}), }}") + b"1", "which no array has"),
        (header("{'descr': '<f8'")[:12], "no header"),
        (header("__import__('os')"), "no header"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "no header"),
        (b"\x93NUMPY\x09\x00", "starts with 934e554d50590900"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match=problem) as caught:
        read_npy(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    np.save(tmp_path / "a.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=np.array([Harmful()], dtype=object))
    (tmp_path / "harm").unlink(missing_ok=True)
    with pytest.raises(DataUnavailable, match="Python objects"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(DataUnavailable, match="Python objects"):
        read_npz(tmp_path / "a.npz", "images")
    assert not (tmp_path / "harm").exists()


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"PK\x03\x04", b"hello"):
        path.write_bytes(content)
        with pytest.raises(DataUnavailable, match=r"a\.npz: is no \.npz file") as caught:
            read_npz(path, "images")
        assert "\n" not in str(caught.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no array")
    with pytest.raises(DataUnavailable, match=r"a\.npz\[images\]: starts with"):
        read_npz(path, "images")


def test_a_long_header_takes_no_quadratic_time() -> None:
    content = header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)" + " " * 60_000)
    began = time.perf_counter()
    with pytest.raises(DataUnavailable, match="no header"):
        read_header("a.npy", content)
    assert time.perf_counter() - began < 1
