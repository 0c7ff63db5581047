r"""Measures of the labels as a sequence: Lempel-Ziv complexity and entropy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.data.complexity.checks import as_bits


def lempel_ziv(y: ArrayLike) -> float:
    r"""Compute the Lempel-Ziv complexity in bits (Dingle, Camargo and Louis 2018, Nature Communications 9, 761).

    .. math:: K(x) = \log_2 L \text{ if } x = 0^L \text{ or } 1^L, \text{ else } ½ \log_2 L \, (N(x) + N(\bar x))

    N is the number of words of :func:`lempel_ziv_words`, x̄ is x reversed. It depends on the order of the inputs.

    Args:
        y: (L,) integers -1/+1 or booleans.

    Returns:
        K(x), bits.
    """
    bits = as_bits(y)
    if bits.all() or not bits.any():
        return math.log2(len(bits))
    text = bits.tobytes()
    return math.log2(len(text)) * (_words(text) + _words(text[::-1])) / 2


def lempel_ziv_words(y: ArrayLike) -> int:
    """Count the words in the exhaustive history of a sequence.

    A word is the shortest continuation that cannot be copied from the text before its own last symbol; the last word
    may end sooner (Lempel and Ziv 1976, IEEE Trans. Inf. Theory 22, 75; Kaspar and Schuster 1987, Phys. Rev. A 36,
    842). 0001101001000101 is 0·001·10·100·1000·101, six words.

    Args:
        y: (L,) integers -1/+1 or booleans.

    Returns:
        number of words.
    """
    return _words(as_bits(y).tobytes())


def _words(text: bytes) -> int:
    words = start = 0
    while start < len(text):
        end, place = start + 1, 0
        # The first occurrence of a longer piece is not before that of the shorter one that it begins with.
        while end <= len(text) and (place := text.find(text[start:end], place, end - 1)) >= 0:
            end += 1
        words += 1
        start = end
    return words


def entropy(y: ArrayLike) -> float:
    r"""Compute the entropy of a random label, -p log2 p - (1 - p) log2 (1 - p) with p the fraction of +1.

    Args:
        y: (n,) integers -1/+1 or booleans.

    Returns:
        bits per label, from 0 to 1.
    """
    p = float(np.mean(as_bits(y)))
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
