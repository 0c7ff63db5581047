"""Specification of loss landscapes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import PLAIN, Specification

Normalisation = Literal["filter", "layer", "none"]


class Landscape(Specification):
    r"""Loss and error at θ + x d₁ + y d₂ on a grid of x and y (Li et al. 2018, 1712.09913).

    Directions are random, N(0, 1) in each weight, and then scaled according to the normalisation:

    .. math:: d_f ← d_f \frac{‖w_f‖}{‖d_f‖}

    Biases and other arrays with one axis are not changed: their entries of a direction are zero.

    Attributes:
        dimensions: 1 for a line, 2 for a plane.
        points: number of points along each axis; an odd number includes θ.
        radius: x and y range from -radius to radius. Default with a trajectory: a range that covers it.
        normalisation: ``filter``: f is a filter, all weights into one unit or channel; ``layer``: all weights of an
            array; ``none``: no scaling.
    """

    dimensions: Annotated[Literal[1, 2], PLAIN] = 1
    points: Annotated[int, Field(ge=2, le=10_001), PLAIN] = 51
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] | None = None
    normalisation: Normalisation = "filter"
