"""Measures by gradients of single examples and of minibatches: one specification each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import MOST, PLAIN, Count, NotNegative, Specification, message_on_error


class _OfPairs(Specification):
    """What measures of pairs of minibatches take.

    Attributes:
        batch: number of examples in a minibatch.
        pairs: number of pairs, each of two minibatches without a common example, drawn independently of other pairs.
            Both orders of a pair are averaged.
    """

    batch: Count = 32
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 100


class GradientContrast(_OfPairs):
    """E ‖g₂‖ (1 - cos(g₁, g₂)) over pairs of minibatches with gradients g₁ and g₂ (Huszár 2018), and its two factors.

    It is the limit of :class:`ContrastRegret` at a small radius.
    """

    kind: Literal["gradient-contrast"] = "gradient-contrast"


class ContrastRegret(_OfPairs):
    """The regret that gradient contrast is the limit of, by minimisation in the ball ‖δ‖ ≤ ε.

    Attributes:
        radius: ε, in units of θ.
        max_steps: of a minimisation, after which the status is ``not-converged``.
        tolerance: a minimisation ends where a step of the gradient's moves the parameters by less than this part of ε,
            or many steps in a row are cut short and gain less than this part of ε ‖g‖ each, as at kinks of a loss.
    """

    kind: Literal["contrast-regret"] = "contrast-regret"
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 20
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05
    max_steps: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 500
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6


class InDivergence(_OfPairs):
    """What contrasts in a ball of the Kullback-Leibler divergence take.

    Attributes:
        fisher_inputs: where the divergence, and the model's Fisher information F, are taken: at ``separate`` inputs,
            which no minibatch has an example of, or at the ``same``.
        fisher_examples: number of those inputs, drawn at random; half of the data when absent, or all of them for
            ``same``. The gradients lie in the range of F only if there are more of them than F has rank, which P is.
        damping: λ of F + λ D, at least 0. Without it F⁻¹ is a pseudo-inverse.
        damped_by: ``diagonal`` is D = diag F, which rescaling of layers and nodes leaves alone as well; ``identity`` is
            D = I, whose λ is in units of F, and with which the figure is not invariant any more.
    """

    fisher_inputs: Literal["separate", "same"] = "separate"
    fisher_examples: Count | None = None
    damping: NotNegative = 0.0
    damped_by: Literal["diagonal", "identity"] = "diagonal"


class NaturalGradientContrast(InDivergence):
    """Gradient contrast in a ball of the Kullback-Leibler divergence: E √(g₂ᵀF⁻¹g₂) - g₂ᵀF⁻¹g₁ / √(g₁ᵀF⁻¹g₁).

    It is the limit of :class:`NaturalContrastRegret` at a small radius.
    """

    kind: Literal["natural-gradient-contrast"] = "natural-gradient-contrast"


class NaturalContrastRegret(InDivergence):
    """The regret that natural-gradient contrast is the limit of, by minimisation where 2 KL + λ δᵀDδ ≤ ε².

    Attributes:
        radius: ε; without damping the divergence goes up to ε²/2, in nats for cross-entropy.
        max_steps: of a minimisation, after which the status is ``not-converged``.
        tolerance: a minimisation ends where a step of the gradient's moves the parameters by less than this part of ε
            in the metric of F + λ D, or 50 steps in a row gain less than this part of ε ‖g‖ together, as happens at
            kinks of the loss or of the divergence.
    """

    kind: Literal["natural-contrast-regret"] = "natural-contrast-regret"
    pairs: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 20
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05
    max_steps: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 500
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-4


class GradientStiffness(Specification):
    """E cos(g_i, g_j) and E sign(g_i · g_j) over pairs of examples i ≠ j (Fort et al. 2019), also by their labels.

    Attributes:
        examples: number of them that all pairs are taken of, drawn at random, or ``all``; there may be fewer.
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
        of: the ``data``, exactly; or the ``population`` that they are independent draws from, by estimates of Tr Σ and
            ‖G‖² without bias.
    """

    kind: Literal["gradient-noise-scale"] = "gradient-noise-scale"
    of: Literal["data", "population"] = "data"


class MinibatchFlatness(Specification):
    """Options of contrastive flatness but for its measure.

    Attributes:
        batch: number of examples in a minibatch.
        batches: number of minibatches, drawn independently; or ``partition``, the data in random order cut into
            minibatches, what does not fill one left out.
    """

    batch: Count = 32
    batches: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["partition"],
        message_on_error("Pass a number from 2 to 1,000,000, or 'partition'"),
    ] = "partition"
