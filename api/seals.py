"""JSON with a checksum for stored data, so that a damaged bit cannot change a number unnoticed."""

from __future__ import annotations

import re
import zlib
from typing import Any

from nngp_prior.schemas.pieces import decode, encode

_SEALED = re.compile(r'\["([0-9a-f]{8})",(.*)\]', re.DOTALL)


class Damaged:
    """Type of :data:`DAMAGED`."""

    def __repr__(self) -> str:
        return "DAMAGED"


DAMAGED = Damaged()
"""Value returned by :func:`unsealed` for damaged text."""


def sealed(value: Any) -> str:
    """Serialise a value as JSON with its CRC-32, itself JSON: ``["checksum",value]``.

    Args:
        value: JSON-serialisable value.

    Returns:
        ASCII text.
    """
    content = encode(value)
    return f'["{zlib.crc32(content.encode()):08x}",{content}]'


def unsealed(text: str) -> Any:
    """Parse the output of :func:`sealed`.

    Args:
        text: the text.

    Returns:
        the value; :data:`DAMAGED` if the text is not exactly what was written.
    """
    found = _SEALED.fullmatch(text)
    if found is None or int(found[1], 16) != zlib.crc32(found[2].encode(errors="surrogateescape")):
        return DAMAGED
    return decode(found[2])
