r"""Gradient contrast in a ball of the Kullback-Leibler divergence, with the natural gradient instead of the gradient.

To first order the divergence of the model at θ + δ from that at θ is δᵀFδ/2. The minimum of L₁ in δᵀFδ ≤ ε² is at
δ = -ε F⁻¹g₁ / √(g₁ᵀF⁻¹g₁), and the regret on L₂

.. math:: R_F = \sqrt{g_2^T F^{-1} g_2} - \frac{g_2^T F^{-1} g_1}{\sqrt{g_1^T F^{-1} g_1}} .

F is the model's Fisher information, (1/N) Σ c_k ∇f_k ∇f_kᵀ with c = ℓ''(f), which does not depend on labels. R_F is the
same for all parameters of the same function, however they are obtained from these, as long as the gradients lie in the
range of F; along other directions the divergence does not grow, and the ball is unbounded.

F is singular: rescaling a hidden unit (ReLU) does not change the function, so the rank of F is at most P minus the
number of hidden units. A pseudo-inverse replaces the inverse: g = F x for some x, and gᵀx does not depend on the choice
of x. It is the pseudo-inverse of F scaled to a diagonal of ones, which is invariant under rescaling of layers and
nodes: the directions that are dropped because of rounding are the same before and after, and the quantity is invariant
even if gradients leave the range.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Integer

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.gradients import InDivergence, NaturalGradientContrast
from nngp_prior.schemas.results.sharpness import Status
from nngp_prior.sharpness.measures.gradient_contrast import cost_of_pairs, figures
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import LOSSES, curvature
from nngp_prior.sharpness.risk.minibatches import (
    Pair,
    check_pairs,
    minibatch_gradients,
    pair_of,
    pairs_of_minibatches,
    scaled,
)
from nngp_prior.sharpness.risk.networks import high_precision

_BYTES = 2**31  # maximal memory of the gradients of outputs at the inputs for F
_OUTSIDE = 100  # maximal part of a gradient outside the range of F, in square roots of the unit of rounding
_UNSEEN = 0.1  # with damping, maximal part of g ∘ θ (invariant under rescaling) at parameters with diag F = 0


class Metric(NamedTuple):
    """Non-zero eigenvalues and eigenvectors of F in scaled parameters θ/d.

    Attributes:
        scale: d of each parameter; 0 for parameters that F and D do not depend on, where the metric is zero.
        eigenvalues: eigenvalues of diag(d) F diag(d), positive; those within rounding are omitted.
        eigenvectors: eigenvectors, as rows.
        damping: λ, in the scaled parameters.
    """

    scale: Float[Array, " P"]
    eigenvalues: Float[Array, " rank"]
    eigenvectors: Float[Array, "rank P"]
    damping: Float[Array, ""]


def metric(
    risk: EmpiricalRisk, rows: Integer[np.ndarray, " N"], damping: float = 0.0, damped_by: str = "diagonal"
) -> Metric:
    """Compute the Fisher information at some of the inputs.

    Args:
        risk: network, loss and inputs.
        rows: rows of these inputs.
        damping: λ.
        damped_by: ``diagonal`` or ``identity``.

    Returns:
        the metric of inner products.
    """
    with high_precision():
        J = _weighted_gradients(risk, jnp.asarray(rows))
        if damping > 0 and damped_by == "identity":
            scale = jnp.ones_like(risk.theta)
        else:
            # A parameter with zero gradient at all inputs for F is zero in D as in F; no scale is invariant under
            # rescaling.
            lengths = jnp.linalg.norm(J, axis=0)
            scale = jnp.where(lengths > 0, 1 / jnp.where(lengths > 0, lengths, 1), 0)
        _, S, V = jnp.linalg.svd(J * scale, full_matrices=False)
        kept = int(jnp.sum(max(J.shape) * jnp.finfo(J.dtype).eps * S[0] < S))
        return Metric(scale, S[:kept] ** 2, V[:kept], jnp.asarray(damping, J.dtype))


@jax.jit
def _weighted_gradients(risk: EmpiricalRisk, rows: Array) -> Array:
    """J of F = JᵀJ, with rows √(c_k/N) ∇f_k."""

    def of_input(input_: tuple[Array, Array]) -> Array:
        x, y = input_
        f, gradient = jax.value_and_grad(lambda theta: risk.outputs(theta, x[None])[0])(risk.theta)
        c = curvature(LOSSES[risk.loss_name], f[None], y[None])[0]
        return jnp.sqrt(c / len(rows)) * gradient

    return lax.map(of_input, (risk.inputs.take(rows), risk.y[rows]), batch_size=risk.chunk)


class LeftOut(NamedTuple):
    """Parts of the gradients of a pair of minibatches that do not contribute to the quantity, or only through damping.

    Attributes:
        outside: the larger part of a gradient outside the range of F, in scaled parameters.
        unseen: the larger part of g ∘ θ in parameters where F and D are zero.
    """

    outside: float
    unseen: float


def pair_in(risk: EmpiricalRisk, F: Metric, rows: Integer[np.ndarray, "2 batch"]) -> tuple[Pair, LeftOut]:
    """Compute lengths of the gradients of two minibatches and the cosine between them, by F⁻¹.

    Args:
        risk: risk on all examples.
        F: metric of the inner products.
        rows: rows of the two minibatches.

    Returns:
        lengths and cosine, and the parts left out.
    """
    with high_precision():
        inner, scales, *left_out = _inner_products(risk, F, jnp.asarray(rows))
    pair = pair_of(np.asarray(inner, np.float64), (float(scales[0]), float(scales[1])))
    return pair, LeftOut(*(float(np.max(np.asarray(part))) for part in left_out))


@jax.jit
def _inner_products(risk: EmpiricalRisk, metric: Metric, pair: Array) -> tuple[Array, Array, Array, Array]:
    """gᵀ (F + λD)⁻¹ g' of the scaled gradients of two minibatches, their scales, and the parts left out."""
    G, scales = jax.vmap(scaled)(minibatch_gradients(risk, pair))
    products = G * risk.theta
    lengths = jnp.linalg.norm(products, axis=1)
    unseen = jnp.linalg.norm(jnp.where(metric.scale > 0, 0, products), axis=1) / jnp.where(lengths > 0, lengths, 1)
    G = G * metric.scale
    inside = G @ metric.eigenvectors.T
    outside = G - inside @ metric.eigenvectors
    # (F + λ)⁻¹ is 1/(eigenvalue + λ) in the range of F and 1/λ outside; without damping 0 outside, a pseudo-inverse
    inner = (inside / (metric.eigenvalues + metric.damping)) @ inside.T
    rest = jnp.where(metric.damping > 0, 1 / jnp.where(metric.damping > 0, metric.damping, 1), 0)
    lengths = jnp.linalg.norm(G, axis=1)
    part = jnp.linalg.norm(outside, axis=1) / jnp.where(lengths > 0, lengths, 1)
    return inner + rest * outside @ outside.T, scales, part, unseen


def parts(n: int, specification: InDivergence, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose the examples for F and those for minibatches.

    Args:
        n: number of examples.
        specification: options of the measure.
        seed: random seed of the choice.

    Returns:
        rows of both sets.
    """
    order = generator(seed, "fisher").permutation(n)
    same = specification.fisher_inputs == "same"
    number = specification.fisher_examples or (n if same else n // 2)
    return order[:number], order[:number] if same else order[number:]


def check(risk: EmpiricalRisk, specification: InDivergence) -> None:
    """Raise an error if minibatches do not fit beside the inputs for F, or F does not fit into memory.

    Args:
        risk: network, loss and data.
        specification: options of the measure.

    Raises:
        InvalidInput: in both cases.
    """
    number = specification.fisher_examples
    room = risk.n - (specification.fisher_inputs == "separate")
    if number is not None and number > room:
        remedy = f"Take at most {room}, or more data."
        raise InvalidInput("fisher_examples", f"got {number} where there are {risk.n} examples", remedy)
    for_fisher, for_minibatches = parts(risk.n, specification, 0)
    check_pairs(len(for_minibatches), specification.batch)
    taken = len(for_fisher) * risk.size * risk.dtype.itemsize
    if taken > _BYTES:
        limit = _BYTES // (risk.size * risk.dtype.itemsize)
        trouble = f"gradients of {len(for_fisher)} outputs by {risk.size} parameters take {taken / 2**30:.1f} GiB"
        remedy = f"Take at most {limit}." if limit else "Measure a smaller network."
        raise InvalidInput("fisher_examples", trouble, remedy)


CHECKS.register(NaturalGradientContrast)(check)


@MEASURES.register(NaturalGradientContrast)
def natural_gradient_contrast(
    risk: EmpiricalRisk, specification: NaturalGradientContrast, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute E of R_F, E √(gᵀF⁻¹g), and E of one minus the cosine in the inner product of F⁻¹.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the inputs for F, and of the minibatches.
        progress: called for each pair.

    Returns:
        three quantities, with standard errors over the pairs drawn, for one choice of inputs for F. The status
        ``degenerate`` means that gradients leave the range of F, or that the inputs for F leave nothing to compare.
    """
    for_fisher, for_minibatches = parts(risk.n, specification, seed)
    F = metric(risk, for_fisher, specification.damping, specification.damped_by)
    found, left_out = [], []
    for rows in pairs_of_minibatches(for_minibatches, specification.batch, specification.pairs, seed):
        pair, part = pair_in(risk, F, rows)
        found.append(pair)
        left_out.append(part)
        progress(Progress("pairs", len(found), specification.pairs))
    names = ("natural_gradient_contrast", "natural_gradient_norm", "natural_gradient_disagreement")
    quantities = judged(figures(found, names), risk, specification, F, len(for_fisher), left_out)
    gradients = len(for_fisher) / risk.n + cost_of_pairs(risk, specification.batch, specification.pairs)
    return MeasureOutcome(quantities, gradients)


def judged(
    quantities: list[Quantity],
    risk: EmpiricalRisk,
    specification: InDivergence,
    F: Metric,
    examples: int,
    left_out: list[LeftOut],
) -> list[Quantity]:
    """Add diagnostics of F to quantities, and the status.

    Args:
        quantities: quantities.
        risk: network, loss and data.
        specification: options of the measure.
        F: the Fisher information.
        examples: number of inputs for F.
        left_out: parts of the gradients left out, of each pair.

    Returns:
        the quantities with diagnostics, and the status ``degenerate`` if they are meaningless.
    """
    rank = len(F.eigenvalues)
    outside, unseen = (max(parts) for parts in zip(*left_out, strict=True))
    diagnostics = {
        "damping": specification.damping,
        "damped_by": specification.damped_by,
        "fisher_inputs": specification.fisher_inputs,
        "fisher_examples": examples,
        "rank": rank,
        "outside": outside,
        "unseen": unseen,
    }
    limit = _OUTSIDE * math.sqrt(float(jnp.finfo(risk.dtype).eps))
    bound = _UNSEEN if specification.damping > 0 else limit
    largest = LeftOut(outside if outside > limit else 0.0, unseen if unseen > bound else 0.0)
    status, message = _worth(specification, rank, examples, largest)
    judgements = []
    for each in quantities:
        if rank == 0:
            each = replace(each, value=math.nan, stderr=None, status=status, message=message)
        elif each.status == "ok":
            each = replace(each, status=status, message=message)
        judgements.append(replace(each, diagnostics={**diagnostics, **each.diagnostics}))
    return judgements


def _worth(specification: InDivergence, rank: int, examples: int, largest: LeftOut) -> tuple[Status, str]:
    """Status of the quantities; parts too small to be measured are 0."""
    if rank == 0:
        return "degenerate", "F is zero: the loss has no curvature at these outputs, or they do not depend on θ"
    if largest.unseen and (specification.damping > 0 or not largest.outside):
        message = (
            f"up to {largest.unseen:.2g} of a gradient (times θ) is in parameters that no input for F reaches, and is "
            "left out; take more fisher_examples, or damped_by='identity'"
        )
        return "degenerate", message
    if specification.damping > 0:
        return "ok", ""
    if specification.fisher_inputs == "same" and rank == examples:
        message = (
            f"F has rank {rank}, that of its {examples} inputs, which minibatches are of: gradients of two of them are "
            "orthogonal, whatever the network is; take fisher_inputs='separate', or damping"
        )
        return "degenerate", message
    if largest.outside:
        message = (
            f"up to {largest.outside:.2g} of a gradient is outside the range of F (rank {rank}, of {examples} inputs), "
            "where the divergence does not bound a step, and is left out; take more fisher_examples, or damping"
        )
        return "degenerate", message
    return "ok", ""
