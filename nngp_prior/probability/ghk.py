"""Separation of variables without twisting (Genz; Geweke, Hajivassiliou and Keane): the classic baseline.

Coordinates are drawn one after another from the prior given the past, each restricted to its half-line, on scrambled
Sobol points (Genz, J. Comput. Graph. Stat. 1, 1992; Hajivassiliou, McFadden and Ruud, J. Econometrics 72, 1996). The
weight of a trajectory is the product of the conditional probabilities of its constraints, at most 1, and its mean is
P. No coordinate anticipates the constraints that follow, so that the weights' relative variance grows exponentially
with n unless inputs are nearly independent.
"""

from __future__ import annotations

import time

import numpy as np

from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.particles import make_mixture
from nngp_prior.probability.proposals import untwisted
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.replicates import importance_sampling
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import GHK


@ESTIMATORS.register(GHK)
def estimate_ghk(
    kernel: FactoredKernel, labels: np.ndarray, parameters: GHK, seed: int, progress: ProgressCallback
) -> Estimate:
    """Return the mean weight with its spread over replicates; inputs are visited in order if K is not singular."""
    began = time.perf_counter()
    mixture = make_mixture(kernel, labels, [untwisted(kernel)], np.array([parameters.particles]))
    return importance_sampling(kernel, mixture, parameters, seed, progress, began)
