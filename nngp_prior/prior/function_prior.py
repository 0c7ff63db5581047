"""log P from an architecture and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from numpy.typing import ArrayLike

from nngp_prior import kernels
from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import monte_carlo_kernel
from nngp_prior.prior.uncertain_kernel import log_probability_under
from nngp_prior.probability import compute, estimator_of, prepare, require_memory
from nngp_prior.probability.gradient import LogProbabilityGradient, log_probability_gradient
from nngp_prior.progress import ProgressOption, shown
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions
from nngp_prior.schemas.specs.kernel import BOOTSTRAPS, MonteCarlo
from nngp_prior.schemas.specs.labels import check_labels_for


@requires_architecture
def log_prior(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    kernel: MonteCarlo | None = None,
    bootstraps: int = BOOTSTRAPS,
    method: str | Estimator = "smc",
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Unpack[EstimatorOptions],
) -> Estimate:
    """Estimate log P of a labelling under the prior of an infinitely wide network, in nats.

    With ``kernel=MonteCarlo(…)`` it is that of a Gaussian process with the kernel of finite networks, estimated from
    random ones. The error of the kernel is then in the standard error, and both parts and the bias in the
    diagnostics (:mod:`nngp_prior.prior.uncertain_kernel`); there is no rigorous bound.

    Args:
        architecture: specification of the network, or a user's own.
        X: (n, …) inputs.
        y: (n,) integers -1/+1 or booleans; with ``classes=C``, integers 0 … C-1.
        kernel: specification of a Monte Carlo estimate of the kernel; default: the analytic kernel.
        bootstraps: with ``kernel``, number of kernels of a bootstrap over networks for which log P is computed.
        method: as for :func:`nngp_prior.log_probability`.
        seed: as for :func:`nngp_prior.log_probability`; networks have the seed of ``kernel``.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: as for :func:`nngp_prior.log_probability`.

    Returns:
        the estimate.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    estimator = estimator_of(method, **options)
    if kernel is not None:
        if not isinstance(kernel, MonteCarlo):
            raise InvalidInput(
                "kernel", f"got {type(kernel).__name__}", "Pass MonteCarlo(…), or a matrix to log_probability."
            )
        if not isinstance(bootstraps, int) or bootstraps < 2:
            raise InvalidInput("bootstraps", f"got {bootstraps!r}", "Pass an integer of at least 2.")
    X = check_inputs("X", X, architecture)
    check_labels_for(estimator, y, len(X))
    require_memory(len(X), estimator, with_kernel=True)
    if kernel:
        with shown(progress, "log P") as tell:
            K = monte_carlo_kernel(architecture, X, kernel, progress=tell)
            return log_probability_under(K, y, estimator, bootstraps, checked_seed(seed), tell)
    with shown(progress, "log P") as tell:
        K = kernels.kernel(architecture, X, progress=tell)
        return compute(prepare(K, estimator), y, estimator, seed, tell)


_DERIVATIVES = {"weight_std": "d-weight-std", "bias_std": "d-bias-std"}


@requires_architecture
def log_prior_gradient(
    architecture: Architecture,
    X: ArrayLike,
    y: ArrayLike,
    parameters: Sequence[Literal["weight_std", "bias_std"]] = ("weight_std", "bias_std"),
    *,
    method: str | Estimator = "smc",
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> LogProbabilityGradient:
    """Estimate log P of a labelling and its derivatives with respect to σ_w and σ_b of all layers.

    Args:
        architecture: specification of the network.
        X: (n, …) inputs.
        y: (n,) integers -1/+1 or booleans.
        parameters: parameters of the derivatives.
        method: as for :func:`nngp_prior.log_probability_gradient`.
        seed: as for :func:`nngp_prior.log_probability`.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: as for :func:`nngp_prior.log_probability_gradient`.

    Returns:
        log P, derivatives in nats per unit of each parameter, and standard errors.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    unknown = next((name for name in parameters if name not in _DERIVATIVES), None)
    if unknown is not None or not len(parameters):
        raise InvalidInput("parameters", f"got {parameters!r}", f"Choose from {', '.join(_DERIVATIVES)}.")
    X = check_inputs("X", X, architecture)
    with shown(progress, "gradient of log P") as tell:
        K, *dK = (
            kernels.kernel(architecture, X, get=get, progress=tell)
            for get in ("nngp", *(_DERIVATIVES[name] for name in parameters))
        )
        return log_probability_gradient(K, y, dK, method, names=parameters, seed=seed, progress=tell, **options)
