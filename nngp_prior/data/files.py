"""Reading of files as bytes."""

from __future__ import annotations

from pathlib import Path

from nngp_prior.errors import DataMissing, DataUnavailable


def read_bytes(path: Path) -> bytearray:
    """Read a whole file.

    Args:
        path: path of the file.

    Returns:
        its content, as memory that arrays may use without a copy.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = bytearray(path.stat().st_size)
            read = file.readinto(content)
            return content[:read] if read < len(content) else content
    except FileNotFoundError:
        raise DataMissing(f"{path}: no such file. Check the path.") from None
    except OSError as error:
        raise DataUnavailable(f"{path}: cannot be read ({error}). Check its permissions.") from None
