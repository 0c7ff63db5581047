"""Architectures: from one specification come the infinite-width kernel and the finite network."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import Specification


class FullyConnected(Specification):
    r"""A fully connected network with one output.

    Its NNGP kernel, for inputs in d dimensions (Lee et al. 2018, eqs 4 and 5):

    .. math:: K^0 = σ_b^2 + σ_w^2\, x·x'/d, \qquad K^{l+1} = σ_b^2 + σ_w^2\, E[φ(u) φ(v)], \; (u, v) ~ N(0, K^l)

    Finite networks have weights N(0, σ_w²/fan-in) and biases N(0, σ_b²).

    Attributes:
        depth: number of hidden layers; 784-40-40-1 is 2, the perceptron is 0. At most 100: the kernel is
            compiled as a whole, which takes half a minute there.
        width: units of each hidden layer of a finite network; the kernel does not depend on it.
        activation: φ.
        weight_std: σ_w.
        bias_std: σ_b.
    """

    kind: Literal["fully-connected"] = "fully-connected"
    depth: Annotated[int, Field(ge=0, le=100)] = 2
    width: Annotated[int, Field(ge=1)] = 512
    activation: Literal["relu", "erf"] = "relu"
    weight_std: Annotated[float, Field(gt=0)] = math.sqrt(2)
    bias_std: Annotated[float, Field(ge=0)] = 0.1


Architecture = FullyConnected
