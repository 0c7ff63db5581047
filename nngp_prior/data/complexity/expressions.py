"""An upper bound on the size of the smallest Boolean formula: two levels, by prime implicants and a greedy cover."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int8
from numpy.typing import ArrayLike

from nngp_prior.data.complexity.checks import as_function

MOST_BITS = 10


def cover_size(y: ArrayLike) -> float:
    """Count the variables written in a short OR of ANDs, for the function or its negation.

    It is an upper bound on :func:`nngp_prior.data.complexity.formulas.formula_size`: two levels may need more than
    several, and the cover is greedy. The negation is tried too because NOT costs nothing: its cover is an AND of ORs
    for the function.

    Args:
        y: labels of all 2ᵇ inputs in the order 0 … 2ᵇ-1, most significant bit first, b from 1 to 10.

    Returns:
        the smaller of the two numbers.
    """
    values, bits = as_function(y, MOST_BITS)
    return float(min(int((cover(part, bits) != 2).sum()) for part in (values, ~values)))


def cover(values: Bool[np.ndarray, " N"], bits: int) -> Int8[np.ndarray, "terms b"]:
    """Return terms whose OR is the function (Quine 1952; McCluskey 1956; the greedy choice is Chvátal's, 1979).

    Args:
        values: values of the function at all inputs, in their order.
        bits: number of variables b.

    Returns:
        prime implicants, for each variable 0 (negated), 1 or 2 (absent). Each covers an input that no other one does.
    """
    primes = prime_implicants(values, bits)
    inputs = (np.flatnonzero(values)[:, None] >> np.arange(bits)[::-1]) & 1
    covers = np.ones((len(primes), len(inputs)), dtype=bool)
    for variable in range(bits):
        own = primes[:, variable, None]
        covers &= (own == 2) | (own == inputs[:, variable])
    literals = np.maximum((primes != 2).sum(axis=1), 1)  # 1 for the constant, which has none
    chosen: list[int] = []
    open_ = np.ones(len(inputs), dtype=bool)
    while open_.any():
        best = int(np.argmax((covers & open_).sum(axis=1) / literals))
        chosen.append(best)
        open_ &= ~covers[best]
    for term in sorted(chosen, key=lambda term: -literals[term]):
        others = [other for other in chosen if other != term]
        if others and covers[others].any(axis=0).all():
            chosen = others
    return primes[chosen]


def prime_implicants(values: Bool[np.ndarray, " N"], bits: int) -> Int8[np.ndarray, "primes b"]:
    """Return all terms that imply the function and from which no variable can be omitted.

    Args:
        values: values of the function at all inputs, in their order.
        bits: number of variables b.

    Returns:
        for each variable 0 (negated), 1 or 2 (absent).
    """
    implies = values.reshape((2,) * bits)
    for axis in range(bits):  # a term without a variable implies f if it does so for both values of the variable
        both = implies.all(axis=axis, keepdims=True)
        implies = np.concatenate([implies, both], axis=axis)
    prime = implies.copy()
    for axis in range(bits):
        present = np.moveaxis(prime, axis, 0)
        present[:2] &= ~np.moveaxis(implies, axis, 0)[2]
    return np.argwhere(prime).astype(np.int8)
