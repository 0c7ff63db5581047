"""What composes data, kernels and probabilities."""

from nngp_prior.prior.function_prior import log_prior
from nngp_prior.prior.pac_bayes import PacBayesBound, pac_bayes_bound

__all__ = ["PacBayesBound", "log_prior", "pac_bayes_bound"]
