"""Strict reading of NumPy's ``.npy`` and ``.npz`` files: anything but arrays of numbers or text is refused.

NumPy's own reader accepts a file whose header was damaged into another shape as a shorter array, and fails on others
with arbitrary exceptions of its parser. Python objects (pickles) are never read.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nngp_prior.data.files import read_bytes
from nngp_prior.errors import DataMissing, DataUnavailable

_MAGIC = b"\x93NUMPY"
_VERSIONS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # bytes of the header's length
START = 12  # number of bytes sufficient to find the end of the header
# Spaces are matched possessively (*+): a header of nothing else must not take quadratic time.
_HEADER = re.compile(
    rb"\{'descr': *+'([<>|=]?[a-zA-Z?]\d{0,9})', *+'fortran_order': *+(True|False), *+"
    rb"'shape': *+\(([\d, ]{0,999})\) *+,? *+\} *+\n?"
)


class NpyHeader(NamedTuple):
    """Description of the array in a ``.npy`` file.

    Attributes:
        dtype: dtype of its entries, in the byte order of the file.
        shape: shape of the array.
        fortran_order: True if the first index is the fastest.
        offset: number of bytes before the data.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


def read_npy(path: Path) -> np.ndarray:
    """Read one array.

    Args:
        path: path of a ``.npy`` file.

    Returns:
        the array, in this machine's byte order.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is not in NumPy's format, its length is not that of its header, or it has Python objects.
    """
    return _parse(str(path), read_bytes(path))


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read arrays of an archive.

    Args:
        path: path of a ``.npz`` file.
        *names: names of the arrays.

    Returns:
        those of the arrays that the archive has, by name.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is not an archive, or damaged, or an array is not valid for :func:`read_npy`.
    """
    # All members, since a damaged directory can hide one under another name, and reading compares the names.
    with _archive(path) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    wanted = {name: members.get(f"{name}.npy") for name in names}
    return {name: _parse(f"{path}[{name}]", content) for name, content in wanted.items() if content is not None}


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of an archive.

    Args:
        path: path of a ``.npz`` file.

    Returns:
        the names.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is not an archive, or damaged.
    """
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; failures while it is read are raised as errors of this package."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            _check_directory(file, archive)
            yield archive
    except FileNotFoundError:
        raise DataMissing(f"{path}: no such file. Check the path.") from None
    except Exception as error:  # zipfile raises a dozen types of exceptions for damaged archives
        raise DataUnavailable(
            f"{path}: is no .npz file that can be read ({_reason(error)}). Save it again with numpy.savez."
        ) from None


def _check_directory(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Refuse a directory with a damaged length, by which one entry includes the next, unnoticed by zipfile."""
    file.seek(-12 - len(archive.comment), io.SEEK_END)
    stated, listed = int.from_bytes(file.read(2), "little"), len(archive.infolist())
    if stated != listed:
        raise zipfile.BadZipFile(f"its directory lists {listed} members and states {stated}")


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def header_end(where: str, start: bytes | bytearray) -> int:
    """Return the offset of the data.

    Args:
        where: name of the file, for error messages.
        start: its first :data:`START` bytes, or all if it is shorter.

    Returns:
        the length of magic string and header.

    Raises:
        DataUnavailable: if it is not a ``.npy`` file.
    """
    length_bytes = _VERSIONS.get(bytes(start[6:8]))
    if start[:6] != _MAGIC or length_bytes is None:
        starts = start[:8].hex() or "nothing"
        raise DataUnavailable(
            f"{where}: starts with {starts} where a .npy file starts with 934e554d50590100. Save it with numpy.save."
        )
    begin = 8 + length_bytes
    return begin + int.from_bytes(start[8:begin], "little")


def read_header(where: str, content: bytes | bytearray) -> NpyHeader:
    """Read a header; nothing in it is evaluated.

    Args:
        where: name of the file, for error messages.
        content: content of the file, at least up to its data.

    Returns:
        the header.

    Raises:
        DataUnavailable: if it is not a header of one plain array.
    """
    offset = header_end(where, content)
    begin = 8 + _VERSIONS[bytes(content[6:8])]
    header = _HEADER.fullmatch(content[begin:offset])
    if header is None or offset > len(content):
        raise DataUnavailable(f"{where}: has no header of one plain array. Save the array again with numpy.save.")
    descr, fortran_order, sizes = (bytes(part).decode() for part in header.groups())
    if descr.lstrip("<>|=").startswith("O"):
        raise DataUnavailable(f"{where}: holds Python objects, which are not read. Save an array of numbers.")
    try:
        dtype = np.dtype(descr)
        shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    except (TypeError, ValueError):
        raise DataUnavailable(
            f"{where}: has the type {descr}, shape ({sizes}). Save it again with numpy.save."
        ) from None
    return NpyHeader(dtype, shape, fortran_order == "True", offset)


def _parse(where: str, content: bytearray) -> np.ndarray:
    header = read_header(where, content)
    dtype, shape, expected = header.dtype, header.shape, header.nbytes
    if len(content) - header.offset != expected:
        raise DataUnavailable(
            f"{where}: has {len(content) - header.offset:,} bytes where shape {shape} and type {dtype} make "
            f"{expected:,}. Save it again with numpy.save."
        )
    try:
        array = np.frombuffer(content, dtype, offset=header.offset) if expected else np.empty(0, dtype)
        array = array.reshape(shape, order="F" if header.fortran_order else "C")
    except ValueError:  # more axes than NumPy supports
        raise DataUnavailable(f"{where}: has the shape {shape}, which no array has. Save it again.") from None
    return np.require(array.astype(dtype.newbyteorder("="), copy=False), requirements="A")
