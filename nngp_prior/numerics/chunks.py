"""Division of arrays into chunks of equal size, so that one compiled function serves all of them."""

from __future__ import annotations

import numpy as np


def even_chunks(n: int, most: int) -> tuple[int, int]:
    """Divide rows into as few chunks as possible, and these as evenly as possible.

    Args:
        n: number of rows.
        most: maximum number of rows per chunk.

    Returns:
        number of chunks, at least 1, and number of rows per chunk; the last chunk may have fewer.
    """
    chunks = max(1, -(-n // most))
    return chunks, -(-n // chunks)


def filled_up(values: np.ndarray, rows: int, filler: np.ndarray | None = None) -> np.ndarray:
    """Pad an array with copies of a row.

    Args:
        values: the array, at most ``rows`` rows.
        rows: number of rows of the result.
        filler: array whose first row is copied. Default: ``values``.

    Returns:
        the padded array; ``values`` itself if nothing is missing.
    """
    missing = rows - len(values)
    if not missing:
        return values
    return np.concatenate([values, np.repeat((values if filler is None else filler)[:1], missing, axis=0)])
