"""Measures of layers, and of the Hessian in units of their norms: one specification each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from nngp_prior.schemas.base import PLAIN, Specification, message_on_error


class RelativeFlatness(Specification):
    r"""Relative flatness of dense layers (Petzka et al. 2021, 2001.00939), exactly.

    .. math::
        κ_{Tr} = \sum_{s,s'} ⟨w_s, w_{s'}⟩\, \mathrm{Tr} H_{s,s'}, \qquad κ = \sum_s ‖w_s‖^2 λ_{max}(H_{s,s})

    w_s are the weights into unit s of the layer, biases not among them, and H their Hessian of the mean loss. Layers
    whose weights are shared between places (convolutions) have none.

    Attributes:
        layer: name of a dense layer; ``each`` is figures for each dense layer; the output layer when absent.
        eigenvalues: whether κ is computed beside κ_Tr; it takes an eigenvalue of a matrix of fan-in rows for each unit.
        normalise: inputs of the layer are divided by their standard deviation over the data, and its weights
            multiplied by it, which leaves the function unchanged and makes both invariant under rescaling of nodes.
    """

    kind: Literal["relative-flatness"] = "relative-flatness"
    layer: str | None = None
    eigenvalues: StrictBool = True
    normalise: StrictBool = False


class _OfLayers(Specification):
    """Attributes of those made of Tr H_l, H_l the Hessian with respect to the weights of layer l, without biases.

    Attributes:
        traces: ``exact``, from closed forms, which dense layers have, and all layers of piecewise linear networks
            without layer norm; ``basis``, exact, by a product for each weight; or by so many random vectors for each
            layer.
    """

    traces: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["exact", "basis"],
        message_on_error("Pass 'exact', 'basis', or a number from 2 to 1,000,000"),
    ] = "exact"


class MinimumSharpness(_OfLayers):
    r"""Minimum sharpness (Ibayashi, Hamaguchi and Imaizumi 2021, 2106.12612): D (Π_l Tr H_l)^{1/D} of D layers.

    It is the least Σ_l Tr H_l among the parameters that rescaling of layers makes of these.
    """

    kind: Literal["minimum-sharpness"] = "minimum-sharpness"


class WeightCurvatureIndex(_OfLayers):
    """A weight-curvature index after Xu and Zhang 2024 (2410.07719): Σ_l √(‖W_l‖_F² Tr H_l), of the loss of the data.

    The paper's is of the adversarial loss; the normalisation could not be checked against it.
    """

    kind: Literal["weight-curvature-index"] = "weight-curvature-index"


class ScaledEigenvalue(Specification):
    r"""The largest eigenvalue of the Hessian in units of the layers' norms (Rangamani et al. 2019, 1902.02434).

    .. math:: λ_{max}(S H S), \qquad S = \mathrm{diag}(‖W_1‖_F I, …, ‖W_D‖_F I)

    At a minimum it is that of the Hessian on the manifold of networks up to rescaling of layers, with the authors'
    metric; elsewhere that has further terms, in proportion to the gradient. Biases stay fixed.

    Attributes:
        tolerance: as of ``eigenvalues``.
        max_steps: as of ``eigenvalues``.
    """

    kind: Literal["scaled-eigenvalue"] = "scaled-eigenvalue"
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6
    max_steps: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 300
