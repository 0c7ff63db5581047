"""The estimators of log P, by the type of their parameters."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nngp_prior.probability.prepared import PreparedKernel
from nngp_prior.progress import ProgressCallback
from nngp_prior.registry import Registry
from nngp_prior.schemas.estimate import Estimate


class Estimator(Protocol):
    """Computes log P of labels that do not contradict each other.

    ``labels`` are those of the inputs kept, ±1 in the order of visits; ``seed`` is the labelling's own.
    """

    def __call__(
        self, kernel: PreparedKernel, labels: np.ndarray, parameters: Any, seed: int, progress: ProgressCallback
    ) -> Estimate:
        """Carry out the parameters."""
        ...


ESTIMATORS: Registry[Estimator] = Registry()
