"""Exact size of the smallest Boolean formula, for up to four bits."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy.typing import ArrayLike

from nngp_prior.data.complexity.checks import as_function

MOST_BITS = 4


def formula_size(y: ArrayLike) -> float:
    """Count the variables, with repetitions, in the smallest formula of AND, OR and NOT.

    NOT costs nothing: De Morgan's laws move it to the variables. Constants have size 0, x₁ ⊕ x₂ = (x₁ ∧ ¬x₂) ∨ (¬x₁ ∧
    x₂) has size 4. The value is exact, from a table of all functions (:func:`smallest_formulas`).

    Args:
        y: labels of all 2ᵇ inputs in the order 0 … 2ᵇ-1, most significant bit first, b from 1 to 4.

    Returns:
        the size.
    """
    values, bits = as_function(y, MOST_BITS)
    function = int(values @ (1 << np.arange(len(values))))
    return float(smallest_formulas(bits)[function])


@lru_cache
def smallest_formulas(bits: int) -> UInt8[np.ndarray, " functions"]:
    """Compute the sizes of the smallest formulas of all Boolean functions, by dynamic programming over the size.

    A formula of size s > 1 is the AND or the OR of one of size a and one of size s - a. Functions of one size are
    closed under negation, so that ANDs and their negations suffice; and under permutation and negation of variables,
    so that one operand need only be one representative of each orbit of that group.

    Args:
        bits: number of variables b ≤ 4.

    Returns:
        sizes, indexed by the number of the function: its value at input i is bit i.
    """
    inputs = 2**bits
    everything = 2**inputs - 1
    sizes = np.full(2**inputs, 255, dtype=np.uint8)
    sizes[[0, everything]] = 0
    symmetries = _symmetries(bits)
    variables = [sum(((i >> k) & 1) << i for i in range(inputs)) for k in range(bits)]
    functions = np.array([variable ^ sign for variable in variables for sign in (0, everything)], dtype=np.uint16)
    levels, representatives = [functions], [functions[:1]]  # of size 1, 2, …
    sizes[functions] = 1
    while (sizes == 255).any():
        size = len(levels) + 1
        made = [np.empty(0, dtype=np.uint16)]
        for a in range(1, size // 2 + 1):
            found = np.unique(representatives[a - 1][:, None] & levels[size - a - 1])
            made += [found, everything ^ found]
        new: list[int] = []
        for function in np.unique(np.concatenate(made)).tolist():
            if sizes[function] == 255:
                orbit = _images(symmetries, function)
                sizes[np.r_[orbit, everything ^ orbit]] = size
                new += {function, everything ^ function}
        levels.append(np.flatnonzero(sizes == size).astype(np.uint16))
        representatives.append(np.array(new, dtype=np.uint16))
    sizes.setflags(write=False)
    return sizes


def _symmetries(bits: int) -> UInt8[np.ndarray, "symmetries inputs"]:
    """Return the image of each input under each permutation and negation of variables."""
    bit = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    moved = [
        bit[:, list(order)] @ (1 << np.arange(bits)) ^ negated
        for order, negated in product(permutations(range(bits)), range(2**bits))
    ]
    return np.array(moved, dtype=np.uint8)


def _images(symmetries: UInt8[np.ndarray, "symmetries inputs"], function: int) -> UInt16[np.ndarray, " orbit"]:
    """Return the orbit of a function under the symmetries."""
    values = (function >> symmetries.astype(np.uint16)) & 1
    return np.unique(values @ (1 << np.arange(symmetries.shape[1]))).astype(np.uint16)
