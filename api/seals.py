"""JSON with a checksum, for what is stored: a damaged bit must not become another number."""

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
"""What :func:`unsealed` returns in place of a damaged value."""


def sealed(value: Any) -> str:
    """Write a value as JSON with its CRC-32, which is JSON too: ``["checksum",value]``.

    Args:
        value: what JSON can hold.

    Returns:
        the text, in ASCII.
    """
    content = encode(value)
    return f'["{zlib.crc32(content.encode()):08x}",{content}]'


def unsealed(text: str) -> Any:
    """Read what :func:`sealed` wrote.

    Args:
        text: of it.

    Returns:
        the value; :data:`DAMAGED` if the text is not exactly what was written.
    """
    found = _SEALED.fullmatch(text)
    if found is None or int(found[1], 16) != zlib.crc32(found[2].encode(errors="surrogateescape")):
        return DAMAGED
    return decode(found[2])
