"""What composes data, kernels and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.prior.function_prior import log_prior
    from nngp_prior.prior.pac_bayes import PacBayesBound, pac_bayes_bound
    from nngp_prior.prior.workbench import Workbench

__all__ = ["PacBayesBound", "Workbench", "log_prior", "pac_bayes_bound"]

_HOMES = {
    "PacBayesBound": "nngp_prior.prior.pac_bayes",
    "Workbench": "nngp_prior.prior.workbench",
    "log_prior": "nngp_prior.prior.function_prior",
    "pac_bayes_bound": "nngp_prior.prior.pac_bayes",
}
__getattr__ = attributes(__name__, _HOMES)
