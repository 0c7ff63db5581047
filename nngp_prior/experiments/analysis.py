"""Which quantity predicts generalization: coefficients of each quantity of a study, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nngp_prior.experiments import statistics
from nngp_prior.experiments.study import Study
from nngp_prior.schemas.results.experiment import Coefficient, Verdict
from nngp_prior.schemas.titles import in_words

_FEWEST = 4  # networks


def verdicts(study: Study) -> list[Verdict]:
    """Return the verdict on each quantity, the best predictor first: by Kendall's τ in the expected direction.

    Args:
        study: results of a study.

    Returns:
        a verdict for each quantity with a value for at least four networks; none of a study with a course, whose rows
        are not independent.
    """
    if study.protocol.course is not None:
        return []
    found = [_verdict(study, name) for name in study.quantities]
    return sorted((each for each in found if each is not None), key=_merit, reverse=True)


def _merit(verdict: Verdict) -> float:
    value = verdict.kendall.value
    if math.isnan(value):
        return -2.0
    return value * verdict.expected if verdict.expected else abs(value) - 1


def _verdict(study: Study, name: str) -> Verdict | None:
    protocol = study.protocol
    x, error, loss = study.column(name), study.column("test_error"), study.column("training_loss")
    usable = np.isfinite(x) & np.isfinite(error) & np.isfinite(loss)
    if usable.sum() < _FEWEST:
        return None
    rows = [row for row, use in zip(study.rows, usable, strict=True) if use]
    x, error, loss = x[usable], error[usable], loss[usable]
    stderr = np.nan_to_num(study.column(f"{name}.stderr")[usable])
    expected, group = study.quantities[name]
    logarithmic = expected <= 0 and bool(np.all(x > 0))
    scaled, own_error = (np.log10(x), stderr / (x * math.log(10))) if logarithmic else (x, stderr)
    settings: Sequence[object] = [row["setting"] for row in rows]
    axes = {axis: [row[axis] for row in rows] for axis in protocol.axes}
    given = protocol.statistics
    options: dict[str, Any] = {"level": given.level, "resamples": given.resamples, "seed": given.seed}

    def coefficients(x: np.ndarray, y: np.ndarray, loss: np.ndarray, pairs: Any) -> tuple[float, ...]:
        of_pairs = statistics.kendall(x, y, pairs)
        return statistics.pearson(x, y), statistics.spearman(x, y), of_pairs, statistics.partial(x, y, loss)

    pearson, spearman, kendall, partial = statistics.bootstrap(
        coefficients, scaled, 1 - error, loss, own_error, settings, **options
    )
    numbers = [row["network"] for row in rows]
    granulated, along = statistics.granulated(scaled, 1 - error, axes, numbers)
    towards_error = -expected or (1 if statistics.kendall(scaled, error) > 0 else -1)
    return Verdict(
        name=name,
        expected=expected,
        group=group,
        networks=len(x),
        missing=study.total - len(x),
        scale="log10" if logarithmic else "linear",
        pearson=pearson,
        spearman=spearman,
        kendall=kendall,
        partial=partial,
        gap=statistics.kendall(scaled, error - study.column("training_error")[usable]),
        granulated=granulated,
        along=along,
        information=statistics.conditional_information(scaled, error, axes),
        sign_error=statistics.sign_error(towards_error * scaled, error, study.accuracy_errors(rows), axes),
        published=protocol.published.get(name),
    )


def sentence(verdict: Verdict) -> str:
    """Return a sentence on how well a quantity predicts the test accuracy."""
    tau, low, high = verdict.kendall
    name = in_words(verdict.name)
    if math.isnan(tau):
        return f"{name} has the same value for all networks, or there is nothing to predict."
    strength = next(word for least, word in _STRENGTHS if abs(tau) >= least)
    sign = "" if not verdict.expected else ", as expected" if tau * verdict.expected > 0 else ", against expectation"
    unsure = "; zero is within the interval" if low <= 0 <= high else ""
    larger = "larger" if tau > 0 else "smaller"
    return (
        f"{name}: {strength} (τ = {tau:.2f}, {low:.2f} to {high:.2f}); {larger} values go with better generalization"
        f"{sign}{unsure}."
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the outcome of a study in a few sentences.

    Args:
        verdicts: verdicts, the best predictor first.

    Returns:
        the best log P and the best measure of flatness, how they differ, and which signs are not the expected ones.
    """
    known = [each for each in verdicts if not math.isnan(each.kendall.value)]
    by_p = next((each for each in known if each.group == "log-p"), None)
    by_flatness = next((each for each in known if each.group == "flatness" and each.expected < 0), None)
    by_prior = next((each for each in known if each.group == "prior"), None)
    parts = []
    if by_p is not None:
        parts.append(f"{in_words(by_p.name)} orders the networks with Kendall's τ = {_with_range(by_p.kendall)}")
    if by_prior is not None:
        best = f"of errors and bounds of the posterior, {in_words(by_prior.name)} does best"
        parts.append(f"{best}, with τ = {_with_range(by_prior.kendall)}")
    if by_flatness is not None:
        best = f"of the flatness measures, {in_words(by_flatness.name)} does best"
        parts.append(f"{best}, with τ = {_with_range(by_flatness.kendall)}")
    if not parts:
        return ""
    text = "; ".join(parts)
    if by_p is not None and by_flatness is not None:
        apart = by_p.kendall.low > -by_flatness.kendall.low or -by_flatness.kendall.high > by_p.kendall.high
        text += ". The intervals of log P and flatness " + ("do not overlap" if apart else "overlap")
    wrong = [in_words(each.name) for each in known if each.expected * each.kendall.value < 0]
    text += f". Against expectation: {', '.join(wrong)}" if wrong else ". All signs are as expected" if known else ""
    return f"{text[:1].upper()}{text[1:]}."


def _with_range(coefficient: Coefficient) -> str:
    return f"{coefficient.value:.2f} ({coefficient.low:.2f} to {coefficient.high:.2f})"


_STRENGTHS = ((0.9, "nearly perfect order"), (0.7, "strong"), (0.4, "moderate"), (0.15, "weak"), (0.0, "hardly any"))
