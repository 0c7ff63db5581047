r"""Coherence of the gradients of single examples g_i: stiffness, diversity, noise scale.

.. math:: S = \frac{1}{n (n-1)} \sum_{i ≠ j} \cos(g_i, g_j), \qquad Δ = \frac{\sum_i ‖g_i‖^2}{‖\sum_i g_i‖^2}, \qquad
    B = \frac{\mathrm{Tr} Σ}{‖\bar g‖^2}, \quad Σ = \frac1n \sum_i g_i g_i^T - \bar g \bar g^T

Fort, Nowak, Jastrzębski and Narayanan 2019 (arXiv 1901.09491); Yin et al. 2018 (1706.05699); McCandlish et al. 2018
(1812.06162), who call this B the simple noise scale. On the data themselves B = n Δ - 1.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Integer

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.chunks import even_chunks
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.gradients import GradientDiversity, GradientNoiseScale, GradientStiffness
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import LOSSES, slope
from nngp_prior.sharpness.risk.minibatches import scaled
from nngp_prior.sharpness.risk.networks import high_precision

_BYTES = 2**27  # memory of the gradients of one block of examples; two blocks are in memory
_ROUNDING = 100  # units of rounding of the examples' gradients up to which their mean counts as zero


@CHECKS.register(GradientStiffness)
def _check_stiffness(risk: EmpiricalRisk, specification: GradientStiffness) -> None:
    del specification
    if risk.n < 2:
        raise InvalidInput("data", "have 1 example", "Stiffness is of pairs of examples: take more.")


@CHECKS.register(GradientNoiseScale)
def _check_noise(risk: EmpiricalRisk, specification: GradientNoiseScale) -> None:
    if specification.of == "population" and risk.n < 3:
        raise InvalidInput("data", f"have {risk.n} examples", "A population is known by 3 of them at least.")


@jax.jit
def _directions(risk: EmpiricalRisk, rows: Array) -> Array:
    """g_i / ‖g_i‖ of a batch of examples; 0 if the gradient is 0."""
    gradients = risk.example_gradients(risk.theta, risk.inputs.take(rows), risk.y[rows])
    G = jax.vmap(lambda gradient: scaled(gradient)[0])(gradients)
    lengths = jnp.linalg.norm(G, axis=1, keepdims=True)
    return G / jnp.where(lengths > 0, lengths, 1)


@jax.jit
def _row_sums(U: Array, V: Array, weights: Array) -> Array:
    """C w and sign(C) w for cosines C = U Vᵀ and each column w."""
    C = jnp.clip(U @ V.T, -1, 1)
    return jnp.stack([C @ weights, jnp.sign(C) @ weights])


def stiffness_sums(
    risk: EmpiricalRisk, chosen: Integer[np.ndarray, " m"], progress: ProgressCallback
) -> tuple[Float[np.ndarray, "2 m 2"], int, int]:
    """Sums over j ≠ i of cos(g_i, g_j) and of its sign, without and with the factor y_i y_j.

    Two blocks of gradients are in memory at a time; with more blocks, gradients are computed again.

    Args:
        risk: network, loss and data.
        chosen: indices of the examples i and j.
        progress: called for each pair of blocks.

    Returns:
        the sums for each i, the number of zero gradients, and the number of computed gradients.
    """
    m = len(chosen)
    size = max(1, min(m, risk.chunk, _BYTES // (risk.size * risk.dtype.itemsize)))
    blocks, size = even_chunks(m, size)
    rows = np.resize(chosen, blocks * size).reshape(blocks, size)
    there = (np.arange(blocks * size) < m).reshape(blocks, size)
    y = np.asarray(risk.y, np.float64)[rows]
    weights = there[..., None] * np.stack([np.ones_like(y), y], axis=-1)
    sums = np.zeros((2, blocks, size, 2))
    zeros = computed = done = 0
    for i in range(blocks):
        with high_precision():
            U = _directions(risk, jnp.asarray(rows[i]))
        computed += size
        there_is = np.any(np.asarray(U) != 0, axis=1)
        zeros += int(np.sum(there[i] & ~there_is))
        for j in range(i, blocks):
            with high_precision():
                V = U if j == i else _directions(risk, jnp.asarray(rows[j]))
                sums[:, i] += np.asarray(_row_sums(U, V, jnp.asarray(weights[j], risk.dtype)))
                if j > i:
                    sums[:, j] += np.asarray(_row_sums(V, U, jnp.asarray(weights[i], risk.dtype)))
            computed += size if j > i else 0
            done += 1
            progress(Progress("blocks", done, blocks * (blocks + 1) // 2))
        # without the pair (i, i), whose cosine is 1
        sums[:, i] -= there_is[:, None] * weights[i]
    sums[..., 1] *= y
    return sums.reshape(2, -1, 2)[:, :m], zeros, computed


@MEASURES.register(GradientStiffness)
def gradient_stiffness(
    risk: EmpiricalRisk, specification: GradientStiffness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute E cos(g_i, g_j) and E sign(g_i · g_j) over all pairs, and by equal and different labels.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the choice of examples.
        progress: called for each pair of blocks of examples.

    Returns:
        six quantities; without standard error if they are over all pairs of the data, else with the jackknife's.
    """
    n = risk.n
    m = n if specification.examples == "all" else min(n, specification.examples)
    chosen = np.arange(n) if m == n else generator(seed, "examples").choice(n, m, replace=False)
    sums, zeros, computed = stiffness_sums(risk, chosen, progress)
    y = np.asarray(risk.y)[chosen]
    pairs = np.stack([np.full(m, m - 1.0), y * y.sum() - 1], axis=-1)  # sums over j ≠ i of 1 and of y_i y_j
    message = f"{zeros} of {m} examples have a zero gradient, whose cosine with others is taken to be 0"
    quantities = []
    for name, of_kind in zip(("gradient_stiffness", "gradient_stiffness_sign"), sums, strict=True):
        for which, mix in (("", (1, 0)), ("[same label]", (0.5, 0.5)), ("[different labels]", (0.5, -0.5))):
            total, number = of_kind @ mix, pairs @ mix
            if number.sum() == 0:
                none = f"there are no two examples of this kind among {m}"
                quantities.append(Quantity(name + which, math.nan, None, "degenerate", none))
                continue
            value, stderr = float(total.sum() / number.sum()), None
            if m < n:
                stderr = jackknife(total, number) * math.sqrt(1 - m / n)
            if zeros == m:
                none = "the gradients of all examples are zero: there are no angles between them"
                quantities.append(Quantity(name + which, math.nan, None, "zero-gradient", none))
            else:
                status = ("zero-gradient", message) if zeros else ("ok", "")
                quantities.append(Quantity(name + which, value, stderr, *status, {"examples": m}))
    return MeasureOutcome(quantities, computed / n)


def jackknife(total: Float[np.ndarray, " m"], number: Float[np.ndarray, " m"]) -> float:
    """Return the standard error of a mean over pairs i ≠ j of independent examples.

    Args:
        total: for each i, sum over j of a symmetric function of i and j.
        number: for each i, number of pairs.

    Returns:
        jackknife standard error, from leaving out each example; infinite if one of them is in all pairs.
    """
    m = len(total)
    rest = number.sum() - 2 * number
    if np.any(rest <= 0):
        return math.inf
    without = (total.sum() - 2 * total) / rest
    return math.sqrt((m - 1) * float(np.var(without)))


@jax.jit
def _squares_and_products(risk: EmpiricalRisk, gradient: Array) -> tuple[Array, Array]:
    """‖g_i‖² and g_i · v of all examples, in units of the largest abs(ℓ') so that squares do not underflow."""
    loss = LOSSES[risk.loss_name]
    f = risk.all_outputs(risk.theta)
    slopes = slope(loss, f, risk.y)
    largest = jnp.max(jnp.abs(slopes))
    slopes = slopes / jnp.where(largest > 0, largest, 1)

    def of_example(x: Array) -> tuple[Array, Array]:
        gradient_of_f = jax.grad(lambda theta: risk.outputs(theta, x[None])[0])(risk.theta)
        return gradient_of_f @ gradient_of_f, gradient_of_f @ gradient

    at_a_time = max(1, min(risk.chunk, _BYTES // (risk.size * risk.dtype.itemsize)))
    found = risk.of_examples(lambda X: jnp.stack(lax.map(of_example, X, batch_size=at_a_time), axis=1))
    return slopes**2 * found[:, 0], slopes * found[:, 1] / jnp.where(largest > 0, largest, 1)


def _moments(risk: EmpiricalRisk) -> tuple[np.ndarray, np.ndarray, bool]:
    """‖g_i‖² and g_i · ḡ in common units, and True if ḡ is no larger than rounding."""
    with high_precision():
        found = _squares_and_products(risk, risk.gradient(risk.theta))
    squares, products = (np.asarray(values, np.float64) for values in found)
    rounding = (_ROUNDING * float(jnp.finfo(risk.dtype).eps)) ** 2 * squares.mean()
    return squares, products, bool(products.mean() <= rounding)


def _zero(name: str) -> MeasureOutcome:
    message = "the mean gradient is zero, or rounding, next to those of the examples: the figure has no bound"
    return MeasureOutcome([Quantity(name, math.nan, None, "zero-gradient", message)], 2)


@MEASURES.register(GradientDiversity)
def gradient_diversity(
    risk: EmpiricalRisk, specification: GradientDiversity, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute Σ ‖g_i‖² / ‖Σ g_i‖², at least 1/n, its value for equal gradients.

    Args:
        risk: network, loss and data.
        specification: no options.
        seed: unused.
        progress: unused.

    Returns:
        one quantity.
    """
    del specification, seed, progress
    squares, products, is_zero = _moments(risk)
    if is_zero:
        return _zero("gradient_diversity")
    # ‖Σ g_i‖² = n Σ g_i·ḡ
    return MeasureOutcome([Quantity("gradient_diversity", float(squares.sum() / (risk.n * products.sum())))], 2)


@MEASURES.register(GradientNoiseScale)
def gradient_noise_scale(
    risk: EmpiricalRisk, specification: GradientNoiseScale, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute Tr Σ / ‖ḡ‖², or for the population the ratio of unbiased estimates (McCandlish et al. 2018, appendix A).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: unused.
        progress: unused.

    Returns:
        one quantity; for the population with the jackknife's standard error.
    """
    del seed, progress
    name, n = "gradient_noise_scale", risk.n
    squares, products, is_zero = _moments(risk)
    if is_zero:
        return _zero(name)
    # ‖ḡ‖² = (1/n) Σ g_i·ḡ
    second, of_mean = squares.mean(), products.mean()
    if specification.of == "data":
        return MeasureOutcome([Quantity(name, float((second - of_mean) / of_mean))], 2)
    value, square = _of_population(second, of_mean, n)
    if square <= 0:
        message = (
            "the estimate of the population's ‖G‖² is not positive: its gradient cannot be distinguished from zero; "
            "take more data"
        )
        return MeasureOutcome([Quantity(name, math.nan, None, "degenerate", message)], 2)
    # The mean of all but g_i is (n ḡ - g_i)/(n - 1).
    others = (n**2 * of_mean - 2 * n * products + squares) / (n - 1) ** 2
    without, rest = _of_population((n * second - squares) / (n - 1), others, n - 1)
    stderr = math.sqrt((n - 1) * float(np.var(without))) if np.all(rest > 0) else math.inf
    return MeasureOutcome([Quantity(name, float(value), stderr)], 2)


def _of_population(second: Any, of_mean: Any, n: int) -> tuple[Any, Any]:
    """Tr Σ / ‖G‖² and ‖G‖², from the mean of ‖g_i‖² and ‖ḡ‖²."""
    # E ‖ḡ‖² = ‖G‖² + Tr Σ / n
    trace = (second - of_mean) * n / (n - 1)
    square = of_mean - trace / n
    return trace / square, square
