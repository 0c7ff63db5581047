"""Critical sample ratio: the fraction of inputs close to one with the opposite label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.data.complexity.checks import as_bits
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.seeds import SeedLike, checked_seed


def critical_sample_ratio(y: ArrayLike) -> float:
    """Compute the fraction of inputs of a Boolean function with an opposite label one bit away.

    As in Valle-Pérez, Camargo and Louis (2019, ICLR), after Arpit et al. (2017).

    Args:
        y: labels of all 2ᵇ inputs in the order 0 … 2ᵇ-1 (most significant bit first); or 2ᵇ-1 of them, if the
            first input has none.

    Returns:
        a number from 0 to 1.

    Raises:
        InvalidLabels: if the number of labels differs.
    """
    values = as_bits(y)
    bits = len(values).bit_length() - (len(values).bit_count() == 1)
    first = 2**bits - len(values)
    if first not in (0, 1) or bits == 0:
        raise InvalidLabels("y", f"has {len(values):,} labels", "Pass one for each of the 2ᵇ inputs, b ≥ 1.")
    numbers = np.arange(first, 2**bits)
    critical = np.zeros(len(values), dtype=bool)
    for bit in range(bits):
        neighbour = (numbers ^ (1 << bit)) - first  # -1 is the input without a label
        critical |= (neighbour >= 0) & (values[neighbour] != values)
    return float(critical.mean())


def critical_sample_ratio_in_box(
    y: ArrayLike,
    X: ArrayLike,
    predict: Callable[[np.ndarray], np.ndarray],
    radius: float,
    *,
    gradient: Callable[[np.ndarray], np.ndarray] | None = None,
    step: float = 0.05,
    noise: float = 0.05,
    iterations: int = 100,
    seed: SeedLike = 0,
) -> float:
    r"""Compute the fraction of inputs with an opposite prediction found nearby in L∞ (Arpit et al. 2017, section 4).

    The search is their Algorithm 1 (Langevin adversarial sample search), from each input x at once:

    .. math:: x̃ \leftarrow \mathrm{clip}_{[x - r, x + r]}\big(x̃ - α y \, \mathrm{sign} ∇f(x̃) + β η\big), \;
        η \sim N(0, I)

    until sign f(x̃) ≠ y. Opposite predictions that the search misses are not counted: the result is a lower bound on the
    ratio. Without the gradient, corners of the box are drawn at random, which finds little in many dimensions.

    Args:
        y: (n,) the network's own predictions at X, -1/+1 or booleans.
        X: (n, d) inputs.
        predict: from (k, d) inputs to (k,) real outputs f, whose sign is the label.
        radius: r, half the edge of the box, in the units of X.
        gradient: from (k, d) inputs to the (k, d) gradients of f.
        step: α divided by r.
        noise: β divided by r.
        iterations: number of steps of the search.
        seed: random seed.

    Returns:
        a number from 0 to 1.

    Raises:
        InvalidInput: if arrays do not fit each other, labels are not the predictions, or a number is not positive.
    """
    y = np.where(as_bits(y), 1.0, -1.0)
    centres = np.array(X, dtype=np.float64)
    if centres.ndim != 2 or len(centres) != len(y):
        raise InvalidInput("X", f"has shape {centres.shape} with {len(y):,} labels", "Pass (n, d) inputs.")
    for name, value in (("radius", radius), ("step", step), ("iterations", iterations)):
        if not value > 0:
            raise InvalidInput(name, f"got {value}", "Pass a positive number.")
    if not noise >= 0:
        raise InvalidInput("noise", f"got {noise}", "Pass a number that is not negative.")
    wrong = np.flatnonzero(_outputs(predict, centres) * y <= 0)
    if len(wrong):
        raise InvalidInput(
            "y", f"the label of input {wrong[0]} is not the prediction there", "Pass the signs of predict(X)."
        )
    rng = generator(checked_seed(seed), "critical samples")
    left, found, x = np.arange(len(y)), 0, centres.copy()
    for _ in range(iterations):
        around = centres[left]
        if gradient is None:
            x = around + radius * rng.choice([-1.0, 1.0], size=around.shape)
        else:
            x = x - step * radius * y[left, None] * np.sign(gradient(x))
            x += noise * radius * rng.standard_normal(x.shape)
            np.clip(x, around - radius, around + radius, out=x)
        safe = _outputs(predict, x) * y[left] > 0
        found += int((~safe).sum())
        left, x = left[safe], x[safe]
        if not len(left):
            break
    return found / len(y)


def _outputs(predict: Callable[[np.ndarray], np.ndarray], x: Float[np.ndarray, "k d"]) -> Float[np.ndarray, " k"]:
    f = np.asarray(predict(x), dtype=np.float64)
    if f.shape != (len(x),):
        raise InvalidInput("predict", f"gave shape {f.shape} for {len(x):,} inputs", "Return one number an input.")
    return f
