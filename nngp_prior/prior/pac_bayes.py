r"""PAC-Bayes bounds from log P of the training labels, for zero training error.

Let S be m examples drawn independently from a distribution, P a prior on functions that does not depend on S, P(S) the
prior mass of the functions consistent with S, L = ln 1/P(S), Q the prior restricted to them (the posterior), ε_f the
error of f on a new example. KL(Q‖P) = L.

**realizable**, the default. A function f is consistent with S with probability (1 - ε_f)^m, so that for ε_f < 1
E_S[1(f consistent) (1 - ε_f)^{-m}] = 1, and by Fubini

.. math:: E_S \big[ P(S)\, E_Q (1 - ε_f)^{-m} \big] = E_P E_S [1(f \text{ consistent}) (1 - ε_f)^{-m}] \le 1 . \quad (1)

By Markov's inequality, with probability at least 1 - δ over S,

.. math:: P(S)\, E_Q (1 - ε_f)^{-m} \le 1/δ , \quad (2)

and Jensen's inequality, for exp and for the convex -ln(1 - ε), gives

.. math:: -\ln(1 - E_Q ε) \le E_Q[-\ln(1 - ε_f)] \le (L + \ln 1/δ)/m . \quad (3)

Markov's inequality for (1) over S and f ~ Q together gives the same number for one function: with probability at least
1 - δ over both, -ln(1 - ε_f) ≤ (L + ln 1/δ)/m. And Markov's inequality in (2) over f ~ Q alone gives, with
probability at least 1 - γ, -ln(1 - ε_f) ≤ (L + ln 1/δ + ln 1/γ)/m. (4)

The published bounds follow from (3) and (4), since their right-hand sides are larger:

- **maurer**: KL inequality with ln(2√m/δ) over m. A. Maurer (2004, cs/0411099, Theorem 5) states it for m ≥ 8; here it
  holds for all m, as ln(2√m) ≥ 0.
- **langford-seeger**: ln(2m/δ) over m - 1, as stated by Valle-Pérez, Camargo, Louis (1805.08522, Theorem 1) after
  Langford and Seeger (2001) and McAllester (2003).
- **valle-perez-camargo-louis**: ε ≤ 1 - e^{-x}, x = (L + 2 ln m + 1 + ln 1/δ)/m, as in the published tables and code of
  Valle-Pérez, Camargo, Louis (2018); 2 ln m + 1 ≥ 0.
- **mcallester**: ε ≤ x, McAllester (Machine Learning 37, 1999, Theorem 2); x ≥ 1 - e^{-x}.
- **valle-perez-louis**: Valle-Pérez and Louis (2012.04115, Theorem 5.1), from (4).

A bound needs a lower bound on P(S). The estimator's, which fails with probability δ_e, and the inequality with δ - δ_e
hold together with probability at least 1 - δ, since the estimator's randomness is independent of S.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.bound import PacBayesBound
from nngp_prior.schemas.results.estimate import Estimate, Exact
from nngp_prior.schemas.specs.data import Corruption, Randomise
from nngp_prior.schemas.specs.inequality import BoundName

_MEAN = "mean error of the functions of the posterior (the prior given the training labels)"
_DRAW = "error of one function drawn from the posterior"
_EXAMPLES = "training examples drawn independently from the distribution of the test examples"
_PRIOR = (
    "architecture, standardisation and noise chosen without the training examples; of k choices after seeing them, "
    "divide delta by k"
)
_POSTERIOR = "not of a network trained by SGD"


class _Inequality(NamedTuple):
    """An inequality: its right-hand side for the error, from L, m, δ and γ."""

    name: BoundName
    error: Callable[[float, int, float, float], float]
    bounds: str
    reference: str


def _kl(numerator: float, denominator: int) -> float:
    """Return the ε with -ln(1 - ε) = numerator/denominator; 1 if the bound is vacuous."""
    return -math.expm1(-numerator / denominator) if denominator else 1.0


def _realizable(L: float, m: int, delta: float, gamma: float) -> float:
    del gamma
    return _kl(L - math.log(delta), m)


def _maurer(L: float, m: int, delta: float, gamma: float) -> float:
    del gamma
    return _kl(L + math.log(2 * math.sqrt(m) / delta), m)


def _langford_seeger(L: float, m: int, delta: float, gamma: float) -> float:
    del gamma
    return _kl(L + math.log(2 * m / delta), m - 1)


def _mcallester(L: float, m: int, delta: float, gamma: float) -> float:
    del gamma
    return (L + 2 * math.log(m) + 1 - math.log(delta)) / m


def _valle_perez_camargo_louis(L: float, m: int, delta: float, gamma: float) -> float:
    return -math.expm1(-_mcallester(L, m, delta, gamma))


def _valle_perez_louis(L: float, m: int, delta: float, gamma: float) -> float:
    return _kl(L + math.log(m) - math.log(delta) - math.log(gamma), m - 1)


_INEQUALITIES = (
    _Inequality(
        "realizable",
        _realizable,
        f"{_MEAN}; with the same probability, over its draw too, the {_DRAW}",
        "Markov and Jensen, docs/bounds.md (3)",
    ),
    _Inequality("maurer", _maurer, _MEAN, "Maurer, cs/0411099 (2004), Theorem 5"),
    _Inequality(
        "langford-seeger",
        _langford_seeger,
        _MEAN,
        "Langford and Seeger (2001), as in Valle-Pérez, Camargo, Louis, arXiv 1805.08522, Theorem 1",
    ),
    _Inequality(
        "valle-perez-camargo-louis",
        _valle_perez_camargo_louis,
        _MEAN,
        "tables and code of Valle-Pérez, Camargo, Louis (2018): McAllester's right-hand side as a bound on -ln(1 - ε); "
        "follows from docs/bounds.md (3)",
    ),
    _Inequality("mcallester", _mcallester, _MEAN, "McAllester, Machine Learning 37 (1999), Theorem 2"),
    _Inequality(
        "valle-perez-louis", _valle_perez_louis, _DRAW, "Valle-Pérez and Louis, arXiv 2012.04115 (2020), Theorem 5.1"
    ),
)


def pac_bayes_bounds(
    estimate: Estimate, delta: float = 0.05, *, gamma: float = 0.05, estimator_share: float = 0.1
) -> dict[BoundName, PacBayesBound]:
    """Compute bounds on the generalization error from log P of the training labels, the sharpest one first.

    They apply to functions drawn from the prior given the labels (zero training error), not to a network found by SGD.
    An estimate with a rigorous lower bound (smc, ghk, minimax-tilting, sampling, bernstein-yue, closed-form) gives
    bounds; for any other the value is used instead, and ``is_bound`` is False.

    An estimate for K + cI is log P under another prior: network outputs with independent noise of variance c at each
    input. The bounds then hold for that prior and its posterior, whose functions are noisy too; ``added`` and the
    conditions report it.

    Args:
        estimate: log P of the training labels.
        delta: δ, the probability that a bound fails, over the examples and the estimator's randomness.
        gamma: γ of ``valle-perez-louis``, over the draw of the function; in addition to δ.
        estimator_share: share of δ for the estimator's lower bound. The error bound grows by ln 1/δ for either share,
            divided by m for the examples', by m and the number of replicates for this one, which may therefore be
            small. An exact value needs no share.

    Returns:
        a bound for each inequality; 1 if log P is too small for a nontrivial bound.

    Raises:
        InvalidInput: if the estimate is not an estimate, or δ, γ or the share is not between 0 and 1.
    """
    if not isinstance(estimate, Estimate):
        raise InvalidInput("estimate", f"got {estimate!r}", "Pass what log_probability returned.")
    for name, value in (("delta", delta), ("gamma", gamma), ("estimator_share", estimator_share)):
        if not 0 < value < 1:
            raise InvalidInput(name, f"got {value}", "Choose a number between 0 and 1.")
    nothing_known = math.isnan(estimate.value)  # a numerical failure
    lower = -math.inf if nothing_known else estimate.lower_bound(delta * estimator_share)
    is_bound = lower is not None
    of_estimator = delta * estimator_share if is_bound and not isinstance(estimate.evidence, Exact) else 0.0
    log_p = min(estimate.value if lower is None else lower, 0.0)
    conditions = [_EXAMPLES, _PRIOR, _POSTERIOR]
    if estimate.diagonal_shift:
        conditions.append(
            f"prior and posterior are those of K + cI, c = {estimate.diagonal_shift:g}: functions with independent "
            "noise of variance c, and no input twice among the examples"
        )
    if not is_bound:
        conditions.append(f"not a bound: {estimate.method} has no rigorous lower bound on P here; use smc on K itself")
    return {
        inequality.name: PacBayesBound(
            name=inequality.name,
            value=min(max(inequality.error(-log_p, estimate.n, delta - of_estimator, gamma), 0.0), 1.0),
            bounds=inequality.bounds,
            is_bound=is_bound,
            conditions=tuple(conditions),
            reference=inequality.reference,
            m=estimate.n,
            log_p=log_p,
            delta=delta - of_estimator,
            delta_estimator=of_estimator,
            gamma=gamma if inequality.name == "valle-perez-louis" else None,
            diagonal_shift=estimate.diagonal_shift,
        )
        for inequality in _INEQUALITIES
    }


def clean_error_randomised(error: float, probability: float) -> float:
    r"""Convert an error on examples with randomised labels to the error on clean examples.

    .. math:: ε̃ = (1 - ρ) ε + ρ/2, \qquad ε = (ε̃ - ρ/2)/(1 - ρ)

    The relation is exact for each function, and for means over functions. It assumes two classes, that each label is
    redrawn from ±1 with probability ρ independently of everything else (``Randomise``), and that ρ is known: for ε̃ < ½
    a larger ρ gives a smaller error, so that the lower limit of an uncertain ρ is safe.

    Args:
        error: ε̃, such as a bound from randomised training labels.
        probability: ρ.

    Returns:
        ε, between 0 and 1.

    Raises:
        InvalidInput: if the error is not in [0, 1] or ρ not in [0, 1).
    """
    _check_corruption(error, "probability", probability, 1.0)
    return min(max((error - probability / 2) / (1 - probability), 0.0), 1.0)


def clean_error_flipped(error: float, rate: float) -> float:
    r"""Convert an error on examples with partly flipped labels to the error on clean examples.

    .. math:: ε̃ = (1 - ρ) ε + ρ (1 - ε), \qquad ε = (ε̃ - ρ)/(1 - 2ρ)

    It assumes two classes, and that each label is flipped with probability ρ independently of everything else, or, for
    a bound of :func:`pac_bayes_bounds`, that ρm of the m training labels are, at indices chosen independently of the
    examples (``Flip``). Then f is consistent with probability ε^{ρm} (1 - ε)^{(1-ρ)m} ≤ (1 - ε̃)^m (the inequality of
    the weighted means), and equation (1) of this module holds as it stands with ε̃ for ε.

    Args:
        error: ε̃, such as a bound from partly flipped training labels.
        rate: ρ.

    Returns:
        ε, between 0 and 1.

    Raises:
        InvalidInput: if the error is not in [0, 1] or ρ not in [0, ½).
    """
    _check_corruption(error, "rate", rate, 0.5)
    return min(max((error - rate) / (1 - 2 * rate), 0.0), 1.0)


def clean_error_corrupted(error: float, corruption: Corruption, y: ArrayLike, clean: ArrayLike) -> float:
    """Convert an error on examples with corrupted labels to the error on clean examples.

    Args:
        error: ε̃, such as a bound from the corrupted training labels.
        corruption: type of corruption: randomised with its probability, or flipped.
        y: (m,) corrupted training labels, two classes.
        clean: (m,) original labels, from which the rate of flips is computed.

    Returns:
        ε, between 0 and 1; 1 if nothing follows, since all labels are redrawn, or half of them or more are flipped.

    Raises:
        InvalidInput: if the error is not in [0, 1].
    """
    if isinstance(corruption, Randomise):
        return clean_error_randomised(error, corruption.probability) if corruption.probability < 1 else 1.0
    rate = float(np.mean(np.asarray(y) != np.asarray(clean)))
    return clean_error_flipped(error, rate) if rate < 0.5 else 1.0


def _check_corruption(error: float, name: str, rho: float, limit: float) -> None:
    if not 0 <= error <= 1:
        raise InvalidInput("error", f"got {error}", "Pass an error between 0 and 1.")
    if not 0 <= rho < limit:
        raise InvalidInput(name, f"got {rho}", f"Pass a number of at least 0 and less than {limit:g}.")
