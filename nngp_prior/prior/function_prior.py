"""From an architecture and data to log P."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from nngp_prior.kernels import kernel
from nngp_prior.probability import log_probability
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.estimate import Estimate


def log_prior(
    architecture: Architecture,
    X: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> Estimate:
    """log P of a labelling under the prior of an infinitely wide network, in nats.

    Args:
        architecture: the specification of the network.
        X: (n, …) inputs.
        labels: (n,) integers -1/+1 or booleans.
        progress: called with ``Progress`` events.
        **options: method, seed and the method's own, as for :func:`nngp_prior.log_probability`.

    Returns:
        the estimate.
    """
    K = kernel(architecture, X, progress=progress)
    return log_probability(K, labels, progress=progress, **options)
