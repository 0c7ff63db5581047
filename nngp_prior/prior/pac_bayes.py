r"""PAC-Bayes bounds from log P of the training labels.

The realizable bound. Let S be m examples drawn independently, P a prior on functions that does not depend on S, Q
the prior restricted to the functions consistent with S (zero training error), P(S) their prior mass, and ε_f the
error of f. For every f with ε_f < 1, E_S[1(f consistent with S) (1 - ε_f)^{-m}] = 1, since f is consistent with
probability (1 - ε_f)^m. So, by Fubini, E_S E_P[1(f consistent) (1 - ε_f)^{-m}] ≤ 1, and by Markov's inequality,
with probability at least 1 - δ over S,

.. math:: P(S)\, E_Q[(1 - ε_f)^{-m}] \le 1/δ .

Jensen's inequality, once for exp and once for the convex -ln(1 - ε), gives with L = ln 1/P(S)

.. math:: -\ln(1 - E_Q ε) \le E_Q[-\ln(1 - ε_f)] \le (L + \ln 1/δ)/m .

No ln m enters. A bound needs a lower bound on P(S): the rigorous one of the estimate at δ/2 and the inequality at δ/2
hold together with probability at least 1 - δ.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import ConfigDict, Field

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.estimate import Estimate


class PacBayesBound(Specification):
    """An upper bound on a generalization error.

    Attributes:
        value: the mean error of the posterior restricted to consistent functions is at most this.
        delta: with probability at least 1 - δ, over the examples and the estimator's randomness.
        m: number of examples.
        log_p_lower: the rigorous lower bound on log P(S) that went in, nats, at δ/2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    value: Annotated[float, Field(ge=0, le=1)]
    delta: float
    m: int
    log_p_lower: Annotated[float, Field(allow_inf_nan=True)]


def pac_bayes_bound(estimate: Estimate, delta: float = 0.05) -> PacBayesBound:
    """The realizable PAC-Bayes bound for the labelling of a training set.

    It bounds the mean error of functions drawn from the prior given the labels, not that of a network found by SGD.
    The architecture and the preprocessing must have been chosen without looking at these labels.

    Args:
        estimate: log P of the training labels, by a method with a rigorous lower bound, of K itself.
        delta: probability that the bound fails.

    Returns:
        the bound; 1 where log P is too small to say anything.

    Raises:
        InvalidInput: the estimate has no lower bound, or δ is not in (0, 1).
    """
    if not isinstance(estimate, Estimate):
        raise InvalidInput("estimate", f"got {estimate!r}", "Pass what log_probability returned.")
    if not 0 < delta < 1:
        raise InvalidInput("delta", f"got {delta}", "Choose a probability between 0 and 1.")
    log_p_lower = estimate.lower_bound(delta / 2)
    if log_p_lower is None:
        raise InvalidInput(
            "estimate",
            f"{estimate.method} gives no lower bound on P, and without one there is no bound",
            "Use smc, on a kernel that is no estimate itself.",
        )
    value = 1.0 if math.isinf(log_p_lower) else -math.expm1((log_p_lower + math.log(delta / 2)) / estimate.n)
    return PacBayesBound(value=value, delta=delta, m=estimate.n, log_p_lower=log_p_lower)
