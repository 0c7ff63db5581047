"""Functions that combine data, kernels and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.prior.class_posterior import ClassPosterior
    from nngp_prior.prior.function_prior import log_prior
    from nngp_prior.prior.learning_curve import CurvePoint, learning_curve
    from nngp_prior.prior.pac_bayes import clean_error_flipped, clean_error_randomised, pac_bayes_bounds
    from nngp_prior.prior.posterior import Posterior, function_posterior
    from nngp_prior.prior.request_runner import RequestRunner
    from nngp_prior.prior.sampling import FunctionCounts, sample_functions

__all__ = [
    "ClassPosterior",
    "CurvePoint",
    "FunctionCounts",
    "Posterior",
    "RequestRunner",
    "clean_error_flipped",
    "clean_error_randomised",
    "function_posterior",
    "learning_curve",
    "log_prior",
    "pac_bayes_bounds",
    "sample_functions",
]

_HOMES = {
    "ClassPosterior": "nngp_prior.prior.class_posterior",
    "CurvePoint": "nngp_prior.prior.learning_curve",
    "FunctionCounts": "nngp_prior.prior.sampling",
    "Posterior": "nngp_prior.prior.posterior",
    "RequestRunner": "nngp_prior.prior.request_runner",
    "clean_error_flipped": "nngp_prior.prior.pac_bayes",
    "clean_error_randomised": "nngp_prior.prior.pac_bayes",
    "function_posterior": "nngp_prior.prior.posterior",
    "learning_curve": "nngp_prior.prior.learning_curve",
    "log_prior": "nngp_prior.prior.function_prior",
    "pac_bayes_bounds": "nngp_prior.prior.pac_bayes",
    "sample_functions": "nngp_prior.prior.sampling",
}
__getattr__, __dir__ = attributes(__name__, _HOMES, __all__)
