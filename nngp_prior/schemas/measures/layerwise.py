"""Specifications of measures of layers, and of the Hessian in units of the layers' norms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from nngp_prior.schemas.base import PLAIN, Specification, message_on_error


class RelativeFlatness(Specification):
    r"""Relative flatness of dense layers (Petzka et al. 2021, 2001.00939), exactly.

    .. math::
        κ_{Tr} = \sum_{s,s'} ⟨w_s, w_{s'}⟩\, \mathrm{Tr} H_{s,s'}, \qquad κ = \sum_s ‖w_s‖^2 λ_{max}(H_{s,s})

    w_s are the weights into unit s of the layer, without bias, and H their Hessian of the mean loss. It is undefined
    for layers whose weights are shared between pixels (convolutions).

    Attributes:
        layer: name of a dense layer; ``each`` for quantities of each dense layer. Default: the output layer.
        eigenvalues: True to compute κ too, which takes an eigenvalue of a matrix of fan-in rows for each unit.
        normalise: True to divide inputs of the layer by their standard deviation over the data and multiply its weights
            by it, which leaves the function unchanged and makes both quantities invariant under rescaling of nodes.
    """

    kind: Literal["relative-flatness"] = "relative-flatness"
    layer: str | None = None
    eigenvalues: StrictBool = True
    normalise: StrictBool = False


class _OfLayers(Specification):
    """Options of measures based on Tr H_l, H_l the Hessian with respect to the weights of layer l, without biases.

    Attributes:
        traces: ``exact``, by closed forms, which exist for dense layers and for all layers of piecewise linear networks
            without layer norm; ``basis``, exact, by one product per weight; or the number of random vectors per layer.
    """

    traces: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["exact", "basis"],
        message_on_error("Pass 'exact', 'basis', or a number from 2 to 1,000,000"),
    ] = "exact"


class MinimumSharpness(_OfLayers):
    r"""Minimum sharpness (Ibayashi, Hamaguchi and Imaizumi 2021, 2106.12612): D (Π_l Tr H_l)^{1/D} of D layers.

    It is the minimum of Σ_l Tr H_l over the parameters that rescaling of layers can reach.
    """

    kind: Literal["minimum-sharpness"] = "minimum-sharpness"


class WeightCurvatureIndex(_OfLayers):
    """A weight-curvature index after Xu and Zhang 2024 (2410.07719): Σ_l √(‖W_l‖_F² Tr H_l), of the loss on the data.

    The paper uses the adversarial loss; the normalisation could not be checked against it.
    """

    kind: Literal["weight-curvature-index"] = "weight-curvature-index"


class ScaledEigenvalue(Specification):
    r"""Largest eigenvalue of the Hessian in units of the layers' norms (Rangamani et al. 2019, 1902.02434).

    .. math:: λ_{max}(S H S), \qquad S = \mathrm{diag}(‖W_1‖_F I, …, ‖W_D‖_F I)

    At a minimum it is the eigenvalue of the Hessian on the manifold of networks up to rescaling of layers, with the
    authors' metric; elsewhere that Hessian has further terms, proportional to the gradient. Biases are fixed.

    Attributes:
        tolerance: as for ``eigenvalues``.
        max_steps: as for ``eigenvalues``.
    """

    kind: Literal["scaled-eigenvalue"] = "scaled-eigenvalue"
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6
    max_steps: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 300
