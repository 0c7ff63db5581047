"""Specifications of measures of the rise of the loss or error in a neighbourhood of a network's parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool, model_validator

from nngp_prior.schemas.base import PLAIN, Count, NotNegative, Specification

ITERATIONS = {"keskar": 10, "zhang2021": 100, "sign-pgd": 30}  # by mode of Keskar's measure
Radius = Annotated[float, Field(gt=0, le=1e6), PLAIN]


class Keskar(Specification):
    r"""Sharpness of Keskar et al. 2017 (1609.04836, metric 2.1): rise of the loss in a small box, in per cent.

    .. math:: 100\, \frac{\max_{z ∈ C} L(w + A z) - L(w)}{1 + L(w)}, \qquad
        C = \{z : |z_i| ≤ ε (|(A^+ w)_i| + 1)\}

    Each mode finds a lower bound on the maximum. ``keskar`` ascends by ten iterations of L-BFGS-B from z = 0. It is
    local, and if the loss is flat on the scale of the box it does not reach the box's edge. ``zhang2021`` (Zhang et
    al., 2103.06219) ascends by stochastic gradients of the sum of the losses of minibatches, each step clipped to the
    box. ``sign-pgd`` ascends by signs of gradients, with steps that initially have the size of the box and are halved
    when the loss does not increase, from w and from random corners; it finds the highest maxima.

    Attributes:
        mode: method of maximisation.
        epsilon: ε. Default: 1e-3, or 1e-4 for ``zhang2021``.
        subspace: p, the number of columns of A, random directions of length 1; not for ``zhang2021``. Keskar et al. use
            100. Default: the whole space, A = 1.
        iterations: iterations of ``keskar`` (default: 10), epochs of ``zhang2021`` (default: 100), or steps of
            ``sign-pgd`` from each start (default: 30).
        starts: number of starts of ``sign-pgd``: w, and random corners of the box.
        learning_rate: step size of ``zhang2021`` for the gradient of the sum of a minibatch's losses, as in the
            authors' code.
        batch: number of examples in a minibatch of ``zhang2021``.
        repeats: number of independent subspaces, or orders of minibatches, to average over; has no effect if nothing is
            random.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"mode": {"const": "zhang2021"}, "subspace": {"type": "integer"}},
                "required": ["mode", "subspace"],
            }
        }
    )

    kind: Literal["keskar"] = "keskar"
    mode: Literal["keskar", "zhang2021", "sign-pgd"] = "keskar"
    epsilon: Annotated[float, Field(gt=0, le=1), PLAIN] | None = None
    subspace: Annotated[int, Field(ge=1, le=10_000), PLAIN] | None = None
    iterations: Annotated[int, Field(ge=1, le=100_000), PLAIN] | None = None
    starts: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 1e-3
    batch: Count = 32
    repeats: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 5

    @model_validator(mode="after")
    def _minibatches_move_all_parameters(self) -> Keskar:
        if self.mode == "zhang2021" and self.subspace is not None:
            raise ValueError("subspace is not of the mode zhang2021: leave it out, or take keskar or sign-pgd")
        return self


class _InBall(Specification):
    """Options of measures of the largest rise of the loss in a ball or ellipsoid of radius ρ.

    Attributes:
        rho: ρ.
        method: ``one-step`` follows the gradient to the boundary of the ball, as the optimizer does, and may end at a
            lower loss than at the start; ``ascent`` continues by projected gradient ascent, and never does.
        steps: number of steps of ``ascent``.
        minibatch: m; the measure is then the mean over minibatches of m examples, each with a separate maximum
            (m-sharpness). Default: all data in one batch.
        partitions: number of random partitions of the data into minibatches to average over; for m = 1 one is exact.
        normalize_logits: True to divide outputs by their root mean square over the data or minibatch, so that the loss
            does not depend on their scale (Andriushchenko et al. 2023, 2302.07011, for one output).
    """

    rho: Radius = 0.05
    method: Literal["one-step", "ascent"] = "one-step"
    steps: Annotated[int, Field(ge=1, le=100_000), PLAIN] = 20
    minibatch: Count | None = None
    partitions: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 5
    normalize_logits: StrictBool = False


class SAMSharpness(_InBall):
    r"""Sharpness of sharpness-aware minimisation (Foret et al. 2021, 2010.01412): rise of the loss in a ball.

    .. math:: \max_{‖ε‖ ≤ ρ} L(w + ε) - L(w), \qquad \text{one step: } ε = ρ\, g / ‖g‖
    """

    kind: Literal["sam-sharpness"] = "sam-sharpness"


class ASAMSharpness(_InBall):
    r"""Adaptive sharpness (Kwon et al. 2021, 2102.11600), elementwise.

    .. math:: \max_{‖T^{-1} ε‖ ≤ ρ} L(w + ε) - L(w), \qquad T = \mathrm{diag}(|w_i| + η),
        \qquad \text{one step: } ε = ρ\, T^2 g / ‖T g‖

    It is invariant under rescaling of units only with η = 0 and if biases are scaled too.

    Attributes:
        eta: η.
        biases: True to apply T to biases; False for T = 1 there, as in the authors' code.
    """

    kind: Literal["asam-sharpness"] = "asam-sharpness"
    rho: Radius = 0.5
    eta: NotNegative = 0.01
    biases: StrictBool = False


class FisherSAMSharpness(_InBall):
    r"""Sharpness of Fisher-SAM (Kim et al. 2022, 2206.04920): rise of the loss in an ellipsoid.

    .. math:: \max_{ε^T (F + δ) ε ≤ ρ^2} L(w + ε) - L(w), \qquad
        \text{one step: } ε = ρ\, (F + δ)^{-1} g / \sqrt{g^T (F + δ)^{-1} g}

    F is the Fisher information's diagonal: the mean over all data, even if the maxima are over minibatches, of squared
    gradients of single examples. The paper's 1 + η F, with a radius γ, is F + δ with δ = 1/η and ρ = γ/√η. With δ = 0
    the measure is invariant under rescaling of units, and parameters with F = 0 are not changed. If the loss is near
    zero so is F, and without δ the ellipsoid is huge.

    Attributes:
        damping: δ.
        fisher: ``empirical``, with the labels given, as in the paper, or ``model``.
    """

    kind: Literal["fisher-sam-sharpness"] = "fisher-sam-sharpness"
    rho: Radius = 0.1
    damping: NotNegative = 1.0
    fisher: Literal["empirical", "model"] = "empirical"


class PACBayes(Specification):
    r"""1/σ² of PAC-Bayes bounds (Jiang et al. 2020, 1912.02178), σ the noise in the parameters that accuracy tolerates.

    .. math:: σ = \max\{s : E_u[\text{error}(w + u)] - \text{error}(w) ≤ d\}, \qquad u_i ∼ N(0, s^2)
        \;\text{ or, magnitude-aware, }\; N(0, s^2 w_i^2 + ε^2)

    The expectation is the mean over the same random vectors for all s. The error usually increases with s; if not
    monotonically, σ is one of the points where it crosses d.

    Attributes:
        noise: ``uniform`` or ``magnitude``.
        drop: d, the maximal drop of the accuracy.
        epsilon: ε of magnitude-aware noise. With ε = 0 the measure is invariant under rescaling of units.
        perturbations: number of random vectors.
        tolerance: relative accuracy of σ, for these vectors.
        compatibility: ``dziugaite2020`` uses the variance, σ² or σ² w² + ε², as the standard deviation, like the code
            of Dziugaite et al. (2010.11924). For uniform noise, 1/σ² is then the square root of its value otherwise.
    """

    kind: Literal["pac-bayes"] = "pac-bayes"
    noise: Literal["uniform", "magnitude"] = "uniform"
    drop: Annotated[float, Field(gt=0, lt=1), PLAIN] = 0.1
    epsilon: NotNegative = 1e-3
    perturbations: Annotated[int, Field(ge=2, le=1_000_000), PLAIN] = 100
    tolerance: Annotated[float, Field(gt=0, le=0.1), PLAIN] = 1e-3
    compatibility: Literal["none", "dziugaite2020"] = "none"
