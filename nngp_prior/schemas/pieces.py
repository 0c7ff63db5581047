"""Piecewise JSON for documents of megabytes: the standard library's encoder and decoder block all other threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import JSONDecoder
from json.scanner import py_make_scanner  # pyright: ignore[reportAttributeAccessIssue]  stubs have C's alone
from typing import Any

_PIECE = 1000  # number of values encoded at once
_SMALL = 2**15  # number of characters decoded at once
_ENCODER = json.JSONEncoder()


def pieces(value: Any, encoder: json.JSONEncoder) -> Iterator[str]:
    """Encode a document.

    Args:
        value: JSON-compatible value, with text as keys of dictionaries.
        encoder: encoder without indentation.

    Yields:
        parts of the text that the encoder would return.
    """
    if _weight(value) <= _PIECE:
        yield encoder.encode(value)
    elif isinstance(value, dict):
        separator = "{"
        for key in sorted(value) if encoder.sort_keys else value:
            yield f"{separator}{encoder.encode(key)}{encoder.key_separator}"
            yield from pieces(value[key], encoder)
            separator = encoder.item_separator
        yield "}"
    else:
        separator = "["
        for part in _parts(value):
            yield separator
            if len(part) == 1:
                yield from pieces(part[0], encoder)
            else:
                yield encoder.encode(part)[1:-1]
            separator = encoder.item_separator
        yield "]"


def encode(value: Any) -> str:
    """Encode a document as ``json.dumps`` does.

    Args:
        value: JSON-compatible value.

    Returns:
        the text.
    """
    return "".join(pieces(value, _ENCODER))


def decode(text: str | bytes, most: int | None = None) -> Any:
    """Decode a document as ``json.loads`` does.

    Args:
        text: the document, as text or as UTF-8 bytes.
        most: maximal number of members of an object. Default: any number.

    Returns:
        the value.

    Raises:
        JSONDecodeError: if the document is not JSON.
        UnicodeDecodeError: if it is not UTF-8.
        ValueError: if an object has too many members.
        RecursionError: if it is nested too deeply.
    """

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if most is not None and len(pairs) > most:
            raise ValueError(f"an object has {len(pairs):,} members, and {most:,} are allowed")
        return dict(pairs)

    text = text if isinstance(text, str) else text.decode()
    if len(text) <= _SMALL:
        return json.loads(text)
    decoder = JSONDecoder(object_pairs_hook=members)
    # The scanner in Python lets other threads run.
    decoder.scan_once = py_make_scanner(decoder)  # pyright: ignore[reportAttributeAccessIssue]
    return decoder.decode(text)


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    """Groups of small values, and large values alone."""
    part: list[Any] = []
    total = 0
    for value in values:
        weight = _weight(value)
        if part and total + weight > _PIECE:
            yield part
            part, total = [], 0
        part.append(value)
        total += weight
    yield part


def _weight(value: Any) -> int:
    """Number of values in a value; exact only up to the size of a piece."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    total = 1 + len(parts)
    for part in parts:
        if total > _PIECE:
            break
        if isinstance(part, list | dict):
            total += _weight(part)
    return total
