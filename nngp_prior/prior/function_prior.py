"""From an architecture and data to log P."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from nngp_prior.kernels import check_inputs, kernel
from nngp_prior.probability import check_labels, compute, estimator_of, prepare, require_memory
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.estimate import Estimate


def log_prior(
    architecture: Architecture,
    X: ArrayLike,
    labels: ArrayLike,
    *,
    method: str = "smc",
    seed: int = 0,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> Estimate:
    """log P of a labelling under the prior of an infinitely wide network, in nats.

    Args:
        architecture: the specification of the network.
        X: (n, …) inputs.
        labels: (n,) integers -1/+1 or booleans.
        method: as for :func:`nngp_prior.log_probability`.
        seed: as there.
        progress: called with ``Progress`` events.
        **options: as there.

    Returns:
        the estimate.
    """
    estimator = estimator_of(method, **options)
    X = check_inputs("X", X, architecture)
    check_labels(labels, len(X))
    require_memory(len(X), estimator, with_kernel=True)
    K = kernel(architecture, X, progress=progress)
    return compute(prepare(K, estimator), labels, estimator, seed, progress)
