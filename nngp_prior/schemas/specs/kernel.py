"""Monte Carlo computation of kernels, for architectures without a formula or on request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import PLAIN, NotNegative, Seed, Specification

BOOTSTRAPS = 20  # kernels of the bootstrap of log P under a Monte Carlo kernel


class MonteCarlo(Specification):
    """Kernel as a mean over random networks of finite width.

    Attributes:
        networks: number of networks M. The rank of the kernel is at most M times the number of features.
        features: features whose products are averaged. ``penultimate`` uses the inputs of the readout layer and
            averages over that layer's weights exactly; ``outputs`` uses outputs. Default: ``penultimate`` for a
            specification, ``outputs`` for a user's network, whose layers are unknown.
        outputs: number of outputs per network with ``features="outputs"``; fixed for a user's network.
        batches: number of groups of networks whose sums are kept, since standard errors and the bootstrap are over
            batches; at most ``networks``. Each takes 8 n² bytes, in memory or on disk.
        seed: random seed of all networks; the weights of network r do not depend on the number of networks.
        ridge: c; the kernel is K̃ + c m I, m the mean of the diagonal of K̃.
    """

    kind: Literal["monte-carlo"] = "monte-carlo"
    networks: Annotated[int, Field(ge=2, lt=2**32), PLAIN] = 128
    features: Literal["penultimate", "outputs"] | None = None
    outputs: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 1
    batches: Annotated[int, Field(ge=2, le=2**32), PLAIN] = 32
    seed: Seed = 0
    ridge: NotNegative = 0.0
