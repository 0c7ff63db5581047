import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.data.idx import read_idx
from nngp_prior.errors import DataUnavailable, NngpPriorError
from tests.data.idx_files import idx_bytes

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
WHOLE = idx_bytes(IMAGES)
PACKED = gzip.compress(WHOLE, mtime=0)  # without the time, which would be in the names of tests


def header(*shape: int, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def test_reads_what_the_format_says(tmp_path: Path) -> None:
    """A file written out by hand: two rows of three bytes."""
    path = tmp_path / "hand"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]))
    assert np.array_equal(read_idx(path), [[1, 2, 3], [4, 5, 255]])


@pytest.mark.parametrize(("name", "content"), [("plain", WHOLE), ("packed.gz", PACKED)])
def test_reads_plain_and_compressed(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    array = read_idx(tmp_path / name)
    assert array.dtype == np.uint8
    assert np.array_equal(array, IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("short", WHOLE[:-1], "39 bytes where its header says 40"),
        ("long", WHOLE + b"\0", "41 bytes where its header says 40"),
        ("empty", b"", "starts with nothing"),
        ("header-only-begun", WHOLE[:6], "6 bytes where its header says"),
        ("text", b"hello world", "starts with 68656c6c"),
        ("floats", header(2, magic=b"\0\0\x0d") + bytes(8), "starts with 00000d01"),
        ("no-dimensions", header(), "4 bytes"),
        ("more-than-64-bits", header(2**31, 2**31, 4), "16 bytes where its header says 18,446,744,073,709,551,632"),
        ("corrupt.gz", PACKED[:-12] + bytes(12), "cannot be read"),
        ("garbled.gz", PACKED[:10] + b"\xff" * 20, "cannot be read"),
        ("cut-off.gz", PACKED[:-12], "cannot be read"),
        ("not-compressed.gz", WHOLE, "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataUnavailable) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="absent") as caught:
        read_idx(tmp_path / "absent")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, NngpPriorError)
