"""How a kernel is computed where there is no formula, or none is wanted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.base import PLAIN, NotNegative, Seed, Specification


class MonteCarlo(Specification):
    """The kernel as a mean over random networks of finite width.

    Attributes:
        networks: M, how many are drawn. The rank of the kernel is at most M times the number of features.
        features: whose products are averaged. ``penultimate`` takes what goes into the readout layer and averages over
            that layer's weights exactly; ``outputs`` takes outputs. When absent, ``penultimate`` for a specification,
            and ``outputs`` for a user's own network, whose layers nobody knows.
        outputs: of each network, with ``features="outputs"``; a user's own network has as many as it has.
        batches: groups of networks whose sums are kept, since standard errors and the bootstrap are over batches. There
            are no more of them than networks; each takes 8 n² bytes, in memory or on disk.
        seed: random seed of all networks; network r has the same weights however many there are.
        ridge: c; the kernel is then K̃ + c m I, m the mean of the diagonal of K̃.
    """

    kind: Literal["monte-carlo"] = "monte-carlo"
    networks: Annotated[int, Field(ge=2, lt=2**32), PLAIN] = 128
    features: Literal["penultimate", "outputs"] | None = None
    outputs: Annotated[int, Field(ge=1, le=1_000_000), PLAIN] = 1
    batches: Annotated[int, Field(ge=2, le=2**32), PLAIN] = 32
    seed: Seed = 0
    ridge: NotNegative = 0.0
