"""Quantities of the networks of a study: log P, errors and bounds of the posterior, and measures of flatness."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nngp_prior.schemas.base import PLAIN, OrNamed, Specification
from nngp_prior.schemas.measures.gradients import GradientDiversity, GradientNoiseScale, GradientStiffness
from nngp_prior.schemas.measures.registry import MEASURES_BY_KIND, Measure
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.specs.kernel import MonteCarlo

Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=60)]
Particles = Annotated[int, Field(ge=4, le=10**6), PLAIN]
Replicates = Annotated[int, Field(ge=2, le=10**6), PLAIN]
Group = Literal["log-p", "prior", "flatness"]


class LogP(Specification):
    """log P(f) of the function f of a network: the training labels with the network's labels of the test inputs.

    Attributes:
        name: name of the quantity.
        estimator: estimator with its options; ``noise_variance`` = v is for the probability under K + vI.
        kernel: kernel of finite random networks. Default: the analytic kernel at infinite width.
    """

    kind: Literal["log-p"] = "log-p"
    name: Name = "log_p"
    estimator: Estimator = SMC()
    kernel: MonteCarlo | None = None


class LogPosterior(Specification):
    """log P(f | S): the posterior probability of the network's labels of the test inputs, given the training labels S.

    Attributes:
        name: name of the quantity.
        particles: particles of a replicate.
        replicates: independent replicates.
        kernel: as for :class:`LogP`; the error of a kernel of finite networks is not in the standard error.
    """

    kind: Literal["log-posterior"] = "log-posterior"
    name: Name = "log_posterior"
    particles: Particles = 32
    replicates: Replicates = 32
    kernel: MonteCarlo | None = None


class LogEvidence(Specification):
    """log P(S) of the training labels S, the marginal likelihood; equal for all networks of a setting.

    Attributes:
        name: name of the quantity.
        estimator: as for :class:`LogP`.
        kernel: as for :class:`LogP`.
    """

    kind: Literal["log-evidence"] = "log-evidence"
    name: Name = "log_evidence"
    estimator: Estimator = SMC()
    kernel: MonteCarlo | None = None


class PriorBound(Specification):
    """PAC-Bayes bound on the error of functions drawn from the posterior, from log P(S).

    Attributes:
        name: name of the quantity.
        inequality: inequality, see :func:`nngp_prior.pac_bayes_bounds`.
        delta: probability that the bound fails.
        estimator: as for :class:`LogP`.
    """

    kind: Literal["pac-bayes-bound"] = "pac-bayes-bound"
    name: Name = "pac_bayes_bound"
    inequality: BoundName = "realizable"
    delta: Annotated[float, Field(gt=0, lt=1), PLAIN] = 0.05
    estimator: Estimator = SMC()


class PosteriorErrors(Specification):
    """Test errors of the posterior given S: ``gibbs_error`` of one function drawn from it, ``vote_error`` of its vote.

    Attributes:
        particles: particles of a replicate.
        replicates: independent replicates.
        kernel: as for :class:`LogPosterior`.
    """

    kind: Literal["posterior-errors"] = "posterior-errors"
    particles: Particles = 32
    replicates: Replicates = 32
    kernel: MonteCarlo | None = None


PriorQuantity = LogP | LogPosterior | LogEvidence | PriorBound | PosteriorErrors

NAMED: dict[str, Specification] = {
    "log-p": LogP(),
    "probit-log-p": LogP(name="probit_log_p", estimator=SMC(noise_variance=1.0)),
    "ep-log-p": LogP(name="ep_log_p", estimator=EP()),
    "log-posterior": LogPosterior(),
    "log-evidence": LogEvidence(),
    "pac-bayes-bound": PriorBound(),
    "posterior-errors": PosteriorErrors(),
}
QUANTITIES = (*NAMED, *MEASURES_BY_KIND)  # names that need no options


def _quantity(value: Any) -> Any:
    """Replace the name of a quantity by its fields."""
    if not isinstance(value, str):
        return value
    return NAMED[value].as_json if value in NAMED else {"kind": value}


_Quantity = Annotated[PriorQuantity | Measure, Field(discriminator="kind")]
Quantity = Annotated[_Quantity, BeforeValidator(_quantity), OrNamed(QUANTITIES)]


def group_of(quantity: Quantity) -> Group:
    """Return the group of a quantity: log probabilities, errors and bounds from the prior, or flatness."""
    if isinstance(quantity, LogP | LogPosterior | LogEvidence):
        return "log-p"
    return "prior" if isinstance(quantity, PriorBound | PosteriorErrors) else "flatness"


def expected_sign(quantity: Quantity) -> int:
    """Return the sign of the correlation with the test accuracy that is expected of a quantity; 0 if none is."""
    if group_of(quantity) == "log-p":
        return 1
    return 0 if isinstance(quantity, GradientStiffness | GradientDiversity | GradientNoiseScale) else -1
