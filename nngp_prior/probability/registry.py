"""Registry of the estimators of log P, by the type of their parameters."""

from __future__ import annotations

from collections.abc import Callable

from nngp_prior.registry import Registry
from nngp_prior.schemas.results.estimate import Estimate

# Called with a factored kernel, the labels of the inputs kept (±1, in the order of visits, without contradictions), the
# parameters, the labelling's own seed and a progress callback. Estimators that run EP also take ``start``: initial
# sites.
ESTIMATORS: Registry[Callable[..., Estimate]] = Registry()
