"""Where a loss landscape is looked at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import PLAIN, Specification

Normalisation = Literal["filter", "layer", "none"]


class Landscape(Specification):
    r"""Loss and error of θ + x d₁ + y d₂ on a grid of x and y (Li et al. 2018, 1712.09913).

    Directions are random, N(0, 1) in each weight, and then of the length that the normalisation gives them:

    .. math:: d_f ← d_f \frac{‖w_f‖}{‖d_f‖}

    Biases and other arrays with one axis stay as they are: their part of a direction is zero.

    Attributes:
        dimensions: 1, a line, or 2, a plane.
        points: along each axis; an odd number has θ itself among them.
        radius: x and y go from minus this to this. Where a trajectory is given and no radius, they cover it.
        normalisation: ``filter``: f is a filter, all weights into one unit or channel; ``layer``: all weights of an
            array; ``none``: the random numbers as they are.
    """

    dimensions: Annotated[Literal[1, 2], PLAIN] = 1
    points: Annotated[int, Field(ge=2, le=10_001), PLAIN] = 51
    radius: Annotated[float, Field(gt=0, le=1e6), PLAIN] | None = None
    normalisation: Normalisation = "filter"
