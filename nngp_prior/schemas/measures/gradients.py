"""Specifications of measures based on gradients of single examples and of minibatches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import MOST, PLAIN, Count, NotNegative, Specification, message_on_error


class _OfPairs(Specification):
    """Options of measures of pairs of minibatches.

    Attributes:
        batch: number of examples in a minibatch.
        pairs: number of pairs, each of two minibatches without a common example, drawn independently of other pairs.
            Both orders of a pair are averaged.
    """

    batch: Count = 32
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 100


class GradientContrast(_OfPairs):
    """E ‖g₂‖ (1 - cos(g₁, g₂)) over pairs of minibatches with gradients g₁ and g₂ (Huszár 2018), and its two factors.

    It is the limit of :class:`ContrastRegret` for ε → 0.
    """

    kind: Literal["gradient-contrast"] = "gradient-contrast"


class ContrastRegret(_OfPairs):
    """Contrast regret by minimisation in the ball ‖δ‖ ≤ ε; its limit for ε → 0 is gradient contrast.

    Attributes:
        radius: ε, in units of θ.
        max_steps: maximal number of steps of a minimisation, after which the status is ``not-converged``.
        tolerance: a minimisation ends if a gradient step moves the parameters by less than this fraction of ε, or if
            many steps in a row are shortened and gain less than this fraction of ε ‖g‖ each, as at kinks of the loss.
    """

    kind: Literal["contrast-regret"] = "contrast-regret"
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 20
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05
    max_steps: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 500
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6


class InDivergence(_OfPairs):
    """Options of contrasts in a ball of the Kullback-Leibler divergence.

    Attributes:
        fisher_inputs: inputs at which the divergence and the model's Fisher information F are taken: ``separate`` for
            inputs that are in no minibatch, or ``same``.
        fisher_examples: number of those inputs, drawn at random. Default: half of the data, or all of them for
            ``same``. The gradients lie in the range of F only if this exceeds the rank of F, which is at most P.
        damping: λ of F + λ D, at least 0. Without it F⁻¹ is a pseudo-inverse.
        damped_by: ``diagonal`` for D = diag F, which preserves invariance under rescaling of layers and nodes;
            ``identity`` for D = I, with λ in units of F, which does not.
    """

    fisher_inputs: Literal["separate", "same"] = "separate"
    fisher_examples: Count | None = None
    damping: NotNegative = 0.0
    damped_by: Literal["diagonal", "identity"] = "diagonal"


class NaturalGradientContrast(InDivergence):
    """Gradient contrast in a ball of the Kullback-Leibler divergence: E √(g₂ᵀF⁻¹g₂) - g₂ᵀF⁻¹g₁ / √(g₁ᵀF⁻¹g₁).

    It is the limit of :class:`NaturalContrastRegret` for ε → 0.
    """

    kind: Literal["natural-gradient-contrast"] = "natural-gradient-contrast"


class NaturalContrastRegret(InDivergence):
    """Regret of natural-gradient contrast, by minimisation where 2 KL + λ δᵀDδ ≤ ε².

    Attributes:
        radius: ε; without damping the divergence is at most ε²/2, in nats for cross-entropy.
        max_steps: maximal number of steps of a minimisation, after which the status is ``not-converged``.
        tolerance: a minimisation ends if a gradient step moves the parameters by less than this fraction of ε in the
            metric of F + λ D, or if 50 steps in a row gain less than this fraction of ε ‖g‖ in total, as happens at
            kinks of the loss or of the divergence.
    """

    kind: Literal["natural-contrast-regret"] = "natural-contrast-regret"
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 20
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05
    max_steps: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 500
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-4


class GradientStiffness(Specification):
    """E cos(g_i, g_j) and E sign(g_i · g_j) over pairs of examples i ≠ j (Fort et al. 2019), also by label.

    Attributes:
        examples: maximal number of examples, drawn at random, whose pairs are all used; or ``all``.
    """

    kind: Literal["gradient-stiffness"] = "gradient-stiffness"
    examples: Annotated[
        Annotated[int, Field(ge=2, le=MOST), PLAIN] | Literal["all"], message_on_error("Pass a number from 2, or 'all'")
    ] = 1000


class GradientDiversity(Specification):
    """Σ ‖g_i‖² / ‖Σ g_i‖² over all examples, exactly (Yin et al. 2018)."""

    kind: Literal["gradient-diversity"] = "gradient-diversity"


class GradientNoiseScale(Specification):
    """Tr Σ / ‖G‖², in examples, Σ the covariance of examples' gradients and G their mean (McCandlish et al. 2018).

    Attributes:
        of: ``data``, for the exact value of the data; or ``population``, from unbiased estimates of Tr Σ and ‖G‖² for
            the distribution that the data are independent draws from.
    """

    kind: Literal["gradient-noise-scale"] = "gradient-noise-scale"
    of: Literal["data", "population"] = "data"


class MinibatchFlatness(Specification):
    """Options of contrastive flatness without its measure.

    Attributes:
        batch: number of examples in a minibatch.
        batches: number of minibatches, drawn independently; or ``partition``, the data in random order divided into
            minibatches, without the remainder.
    """

    batch: Count = 32
    batches: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["partition"],
        message_on_error("Pass a number from 2 to 1,000,000, or 'partition'"),
    ] = "partition"
