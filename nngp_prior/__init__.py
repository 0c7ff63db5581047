"""Probability of labellings under the prior of neural networks.

The public names load their modules on first use; importing the package does not load JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.architectures import FromNetwork
    from nngp_prior.client import Client
    from nngp_prior.data.complexity import complexity
    from nngp_prior.kernels import MonteCarloKernel, kernel, kernel_cost, monte_carlo_kernel
    from nngp_prior.local import LocalClient
    from nngp_prior.prior import (
        FunctionCounts,
        Posterior,
        clean_error_flipped,
        clean_error_randomised,
        function_posterior,
        learning_curve,
        log_prior,
        log_prior_gradient,
        pac_bayes_bounds,
        sample_functions,
    )
    from nngp_prior.prior.classifier import NNGPClassifier
    from nngp_prior.prior.contributions import contributions
    from nngp_prior.prior.posterior import posterior
    from nngp_prior.prior.selection import phase_diagram, select_architecture
    from nngp_prior.probability import estimate_cost, log_probabilities, log_probability
    from nngp_prior.probability.gradient import log_probability_gradient
    from nngp_prior.schemas.cost import Cost
    from nngp_prior.schemas.results.bound import PacBayesBound
    from nngp_prior.schemas.results.estimate import Estimate
    from nngp_prior.schemas.specs.architecture import Convolutional, FullyConnected, Residual
    from nngp_prior.schemas.specs.estimator import (
        EP,
        EP2,
        GHK,
        SMC,
        BernsteinYue,
        ClosedForm,
        Laplace,
        MinimaxTilting,
        Sampling,
    )
    from nngp_prior.schemas.specs.kernel import MonteCarlo
    from nngp_prior.sharpness.training.trained_functions import function_probability
    from nngp_prior.versions import __version__

_HOMES = {
    "__version__": "nngp_prior.versions",
    "EP": "nngp_prior.schemas.specs.estimator",
    "EP2": "nngp_prior.schemas.specs.estimator",
    "GHK": "nngp_prior.schemas.specs.estimator",
    "SMC": "nngp_prior.schemas.specs.estimator",
    "BernsteinYue": "nngp_prior.schemas.specs.estimator",
    "ClosedForm": "nngp_prior.schemas.specs.estimator",
    "Laplace": "nngp_prior.schemas.specs.estimator",
    "MinimaxTilting": "nngp_prior.schemas.specs.estimator",
    "Sampling": "nngp_prior.schemas.specs.estimator",
    "Client": "nngp_prior.client",
    "LocalClient": "nngp_prior.local",
    "Convolutional": "nngp_prior.schemas.specs.architecture",
    "Residual": "nngp_prior.schemas.specs.architecture",
    "Cost": "nngp_prior.schemas.cost",
    "Estimate": "nngp_prior.schemas.results.estimate",
    "FromNetwork": "nngp_prior.architectures",
    "FunctionCounts": "nngp_prior.prior",
    "FullyConnected": "nngp_prior.schemas.specs.architecture",
    "MonteCarlo": "nngp_prior.schemas.specs.kernel",
    "MonteCarloKernel": "nngp_prior.kernels",
    "NNGPClassifier": "nngp_prior.prior.classifier",
    "PacBayesBound": "nngp_prior.schemas.results.bound",
    "Posterior": "nngp_prior.prior.posterior",
    "clean_error_flipped": "nngp_prior.prior.pac_bayes",
    "clean_error_randomised": "nngp_prior.prior.pac_bayes",
    "complexity": "nngp_prior.data.complexity",
    "contributions": "nngp_prior.prior.contributions",
    "estimate_cost": "nngp_prior.probability",
    "function_posterior": "nngp_prior.prior.posterior",
    "function_probability": "nngp_prior.sharpness.training.trained_functions",
    "kernel": "nngp_prior.kernels",
    "kernel_cost": "nngp_prior.kernels",
    "learning_curve": "nngp_prior.prior.learning_curve",
    "log_prior": "nngp_prior.prior.function_prior",
    "log_prior_gradient": "nngp_prior.prior.function_prior",
    "log_probabilities": "nngp_prior.probability",
    "log_probability": "nngp_prior.probability",
    "log_probability_gradient": "nngp_prior.probability.gradient",
    "monte_carlo_kernel": "nngp_prior.kernels",
    "pac_bayes_bounds": "nngp_prior.prior.pac_bayes",
    "phase_diagram": "nngp_prior.prior.selection",
    "posterior": "nngp_prior.prior.posterior",
    "sample_functions": "nngp_prior.prior",
    "select_architecture": "nngp_prior.prior.selection",
}

__all__ = [
    "EP",
    "EP2",
    "GHK",
    "SMC",
    "BernsteinYue",
    "Client",
    "ClosedForm",
    "Convolutional",
    "Cost",
    "Estimate",
    "FromNetwork",
    "FullyConnected",
    "FunctionCounts",
    "Laplace",
    "LocalClient",
    "MinimaxTilting",
    "MonteCarlo",
    "MonteCarloKernel",
    "NNGPClassifier",
    "PacBayesBound",
    "Posterior",
    "Residual",
    "Sampling",
    "__version__",
    "clean_error_flipped",
    "clean_error_randomised",
    "complexity",
    "contributions",
    "estimate_cost",
    "function_posterior",
    "function_probability",
    "kernel",
    "kernel_cost",
    "learning_curve",
    "log_prior",
    "log_prior_gradient",
    "log_probabilities",
    "log_probability",
    "log_probability_gradient",
    "monte_carlo_kernel",
    "pac_bayes_bounds",
    "phase_diagram",
    "posterior",
    "sample_functions",
    "select_architecture",
]


__getattr__, __dir__ = attributes(__name__, _HOMES, __all__)
