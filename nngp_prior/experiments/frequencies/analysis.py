"""How well quantities predict the frequencies of functions: coefficients with intervals, and sentences on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from nngp_prior.experiments import statistics
from nngp_prior.experiments.frequencies.line import Line, fit_line
from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.frequencies import Complexity
from nngp_prior.schemas.results.experiment import Coefficient
from nngp_prior.schemas.results.frequencies import FrequencyVerdict
from nngp_prior.schemas.text import number_of

_FEWEST = 4  # functions
_SIMULATIONS = 200


def verdicts(study: FrequencyStudy) -> list[FrequencyVerdict]:
    """Return the verdicts: on estimates of log P in the protocol's order, then on complexities, the best first.

    Args:
        study: results of a study.

    Returns:
        verdicts on quantities with a value for at least four functions of a setting.
    """
    complexities = {each.name for each in study.protocol.quantities if isinstance(each, Complexity)}
    found = [
        verdict
        for index in range(len(study.settings))
        for name in study.quantities
        if (verdict := _verdict(study, index, name, name in complexities)) is not None
    ]
    return sorted(found, key=_order)


def _order(verdict: FrequencyVerdict) -> tuple[int, int, float]:
    if verdict.expected > 0:
        return verdict.setting, 0, 0.0
    return verdict.setting, 1, math.inf if math.isnan(verdict.kendall.value) else verdict.kendall.value


def frequencies(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return logarithms of frequencies, and their variances.

    log((k + ½)/(N + 1)) has a bias of order 1/k² only, and exists for functions that no network that counts has.

    Args:
        rows: rows of a study.

    Returns:
        one entry per row each.
    """
    k, N = (np.array([row[name] for row in rows], float) for name in ("count", "networks"))
    return np.log((k + 0.5) / (N + 1)), 1 / (k + 0.5) - 1 / (N + 1)


def _verdict(study: FrequencyStudy, index: int, name: str, is_complexity: bool) -> FrequencyVerdict | None:
    own = study.of_setting(index)
    rows = [row for row in own if row.get(name) is not None and math.isfinite(row[name])]
    if len(rows) < _FEWEST:
        return None
    x, stderr = (np.array([row[key] or 0.0 for row in rows], float) for key in (name, f"{name}.stderr"))
    y, variances = frequencies(rows)
    variances = variances + stderr**2
    given = study.protocol.statistics

    def coefficients(x: np.ndarray, y: np.ndarray, variances: np.ndarray, pairs: Any) -> tuple[float, ...]:
        del pairs  # copies of a function are ties in x and in y, which τ leaves out
        line = Line(math.nan, math.nan, math.nan) if is_complexity else fit_line(x, y, variances)
        return statistics.pearson(x, y), statistics.spearman(x, y), _kendall(x, y), *line

    pearson, spearman, kendall, slope, bias, scatter = statistics.bootstrap(
        coefficients,
        x,
        y,
        variances,
        np.zeros(len(rows)),  # functions are drawn with the errors that their values have
        list(range(len(rows))),
        level=given.level,
        resamples=given.resamples,
        seed=given.seed,
    )
    return FrequencyVerdict(
        name=name,
        setting=index,
        where=str(study.settings[index]) if study.protocol.axes else "",
        expected=-1 if is_complexity else 1,
        functions=len(rows),
        missing=len(own) - len(rows),
        pearson=pearson,
        spearman=spearman,
        kendall=kendall,
        attainable=math.nan if is_complexity else _attainable(x - np.mean(x - y), stderr, rows, given.seed),
        slope=slope,
        bias=bias,
        scatter=scatter,
        total_frequency=float(sum(row["count"] / row["networks"] for row in rows)),
        total_p=math.nan if is_complexity else float(np.sum(np.exp(x))),
        published=study.protocol.published.get(name),
    )


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ_b in n log n operations."""
    found: Any = kendalltau(x, y, method="asymptotic")
    return float(found.statistic)


def _attainable(log_p: np.ndarray, stderr: np.ndarray, rows: Sequence[dict[str, Any]], seed: int) -> float:
    """Return the mean τ of estimates of log P and counts of mean N P."""
    rng = generator(seed, "attainable")
    means = np.exp(log_p) * np.array([row["networks"] for row in rows])
    simulated = ((log_p + stderr * rng.standard_normal(len(log_p)), rng.poisson(means)) for _ in range(_SIMULATIONS))
    return float(np.nanmean([_kendall(*each) for each in simulated]))


_WORDS = {
    "log_p": "log P(f)",
    "probit_log_p": "log P(f), probit",
    "ep_log_p": "log P(f), EP",
    "log_posterior": "log P(f | S)",
    "sampled_log_p": "log P(f), sampled",
    "lempel_ziv": "Lempel-Ziv complexity",
    "entropy": "entropy of the labels",
    "critical_sample_ratio": "critical sample ratio",
    "formula_size": "formula size",
    "cover_size": "cover size",
}


def in_words(name: str, trained: bool) -> str:
    """Return the name of a quantity for readers; of trained networks, log P is given the training labels S."""
    words = _WORDS.get(name, name.replace("_", " "))
    return words.replace("P(f)", "P(f | S)") if trained else words


def title_of(verdict: FrequencyVerdict, trained: bool) -> str:
    """Return the name of a verdict's quantity, and its setting."""
    name = in_words(verdict.name, trained)
    return f"{name} ({verdict.where})" if verdict.where else name


def sentence(verdict: FrequencyVerdict, trained: bool) -> str:
    """Return what a verdict says, in words."""
    tau, low, high = verdict.kendall
    name = title_of(verdict, trained)
    if math.isnan(tau):
        return f"{name} has the same value for all functions, or all functions are equally frequent."
    of = "" if math.isnan(verdict.attainable) else f"; {verdict.attainable:.2f} would be expected of exact P"
    order = f"Kendall's τ = {tau:.2f}, {low:.2f} to {high:.2f}{of}"
    if low <= 0 <= high:
        return f"{name}: its order of the functions cannot be distinguished from chance ({order})."
    against = "" if tau * verdict.expected > 0 else ", against expectation"
    if verdict.expected < 0:
        return f"{name}: {'simpler' if tau < 0 else 'more complex'} functions are more frequent ({order}){against}."
    return (
        f"{name}: more probable functions are {'more' if tau > 0 else 'less'} frequent ({order}){against}. "
        f"A function that is ten times as probable has {10**verdict.slope.value:.1f} times as many networks "
        f"(slope {_with_range(verdict.slope)}). {_of_bias(verdict.bias)} Frequencies deviate from the line by "
        f"{verdict.scatter.value:.2f} nats, apart from the errors of counting and of log P."
    )


def _of_bias(bias: Coefficient) -> str:
    value, low, high = bias
    if low <= 0 <= high:
        return f"On average log P and log frequency agree ({_signed(value)} nats, {low:.2f} to {high:.2f})."
    side = "above" if value > 0 else "below"
    return f"On average log P is {abs(value):.2f} nats {side} log frequency ({low:.2f} to {high:.2f})."


def summary(verdicts: Sequence[FrequencyVerdict], trained: bool) -> list[str]:
    """Return the outcome of a study in a few sentences.

    Args:
        verdicts: verdicts, as :func:`verdicts` returns them.
        trained: True if functions are those of trained networks.

    Returns:
        a text for each setting: how frequent its functions are, how probable by all estimates, and which complexity
        orders them best.
    """
    texts = []
    for where in dict.fromkeys(verdict.where for verdict in verdicts):
        own = [each for each in verdicts if each.where == where and not math.isnan(each.kendall.value)]
        estimates = [each for each in own if each.expected > 0]
        parts = []
        for first in estimates[:1]:
            name, functions = in_words(first.name, trained), number_of(first.functions, "function")
            others = (f", {in_words(each.name, trained)} {_apart(each.bias.value)} it" for each in estimates[1:])
            parts += [
                f"{functions} have {_percent(first.total_frequency)} of the networks; by {name} they should have "
                f"{_percent(first.total_p)}",
                f"Log frequency has slope {first.slope.value:.2f} against {name} (r = {first.pearson.value:.3f})",
                f"On average {name} is {_apart(first.bias.value)} log frequency{''.join(others)}",
            ]
        simplest = next((each for each in own if each.expected < 0 and each.kendall.high < 0), None)
        if simplest is not None:
            words = in_words(simplest.name, trained)
            parts.append(f"Of the complexities {words} orders the functions best, τ = {_with_range(simplest.kendall)}")
        text = "".join(f"{part}. " for part in parts).strip()
        texts.append(f"{where}: {text}" if where else text)
    return [text for text in texts if text]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _apart(bias: float) -> str:
    return f"{abs(bias):.2f} nats {'above' if bias > 0 else 'below'}"


def _signed(value: float) -> str:
    """Value with its sign, 0 without one."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def _with_range(coefficient: Coefficient) -> str:
    return f"{coefficient.value:.2f} ({coefficient.low:.2f} to {coefficient.high:.2f})"
