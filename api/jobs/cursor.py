"""Cursors for pages of jobs."""

from __future__ import annotations

import base64
import struct

from nngp_prior.errors import InvalidInput

CURSOR = "^[A-Za-z0-9_-]{11}$"  # eight bytes


def cursor_of(number: int) -> str:
    """Return the cursor after a job's number."""
    return base64.urlsafe_b64encode(struct.pack(">q", number)).decode().rstrip("=")


def number_of(cursor: str) -> int:
    """Decode a cursor.

    Args:
        cursor: as :func:`cursor_of` made it.

    Returns:
        the job's number.

    Raises:
        InvalidInput: if ``cursor`` is invalid.
    """
    try:
        return struct.unpack(">q", base64.urlsafe_b64decode(cursor + "="))[0]
    except (ValueError, struct.error) as error:
        raise InvalidInput("cursor", f"got {cursor!r}", "Give the one of the page before, as it was.") from error
