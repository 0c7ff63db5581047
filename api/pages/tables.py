"""Tables of results, one function per kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nngp_prior.schemas import titles
from nngp_prior.schemas.requests import (
    BoundRequest,
    EstimateRequest,
    ExperimentRequest,
    KernelRequest,
    PosteriorRequest,
    SampleRequest,
    SelectionRequest,
    SharpnessRequest,
)
from nngp_prior.schemas.results.base import DELTA, LEVEL, Result
from nngp_prior.schemas.results.bound import BoundResult
from nngp_prior.schemas.results.experiment import STUDY, Coefficient, TaskResult
from nngp_prior.schemas.results.frequencies import FrequencyResults, FrequencyVerdict, results_of_study
from nngp_prior.schemas.results.posterior import PosteriorResult
from nngp_prior.schemas.results.sample import Samples, bits_of
from nngp_prior.schemas.results.selection import CandidateResult, Selection
from nngp_prior.schemas.results.sharpness import SharpnessResult
from nngp_prior.schemas.text import duration, nats, size
from nngp_prior.schemas.titles import in_words, network

Rows = Sequence[tuple[int, dict[str, Any]]]
_LABELS = 64  # labels of a function that are shown


@dataclass(frozen=True)
class Line:
    """Row of a table.

    Attributes:
        cells: texts of the columns.
        status: status of the result.
        message: meaning of the status, and remedy; may be empty.
    """

    cells: Sequence[str]
    status: str = "ok"
    message: str = ""


@dataclass(frozen=True)
class Table:
    """Table of results.

    Attributes:
        caption: what its rows are.
        headings: headings of the columns, the first of which are texts.
        lines: rows.
        texts: number of leading columns with text instead of numbers.
        note: meaning of the columns.
    """

    caption: str
    headings: Sequence[str]
    lines: Sequence[Line]
    texts: int = 1
    note: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def tables_of(kind: str, rows: Rows, about: Mapping[str, Any], name: Callable[[int], str]) -> list[Table]:
    """Return the tables that show results.

    Args:
        kind: kind of work.
        rows: indices and results.
        about: part of the results document above the rows.
        name: function that names a row's labelling.

    Returns:
        tables; none if there are no rows.
    """
    return _TABLES[kind](rows, about, name) if rows else []


def _of_estimates(rows: Rows, _: Mapping[str, Any], name: Callable[[int], str]) -> list[Table]:
    lines = []
    for index, row in rows:
        result = Result(row)
        interval = result.interval(LEVEL)
        cells = (
            str(index),
            name(index),
            nats(result.value, result.stderr),
            "–" if interval is None else " … ".join(nats(end, result.stderr, False) for end in interval),
            nats(result.lower_bound(DELTA), result.stderr, False),
            duration(result.seconds),
        )
        lines.append(Line(cells, result.status, result.message))
    headings = ("#", "labelling", "log P ± s.e. (nats)", f"{LEVEL:.0%} interval (nats)", "lower bound (nats)", "time")
    note = (
        f"The lower bound is rigorous: log P is at least this with probability {1 - DELTA:g}. A dash: the estimator "
        "gives none."
    )
    return [Table("log P by labelling", headings, lines, 2, note)]


def _of_bounds(rows: Rows, about: Mapping[str, Any], name: Callable[[int], str]) -> list[Table]:
    points = [(index, point) for index, row in rows for point in BoundResult(row).points]
    names = list(dict.fromkeys(bound.name for _, point in points for bound in point.bounds.values()))
    clean = any(point.clean_error is not None for _, point in points)
    lines = []
    for index, point in points:
        found = point.bounds
        cells = [str(index), name(index), "" if point.m is None else f"{point.m:,}", nats(point.value, point.stderr)]
        cells += [f"{found[each].value:.4f}" if each in found else "–" for each in names]
        cells += ["–" if point.clean_error is None else f"{point.clean_error:.4f}"] if clean else []
        lines.append(Line(cells, point.status, point.message))
    headings = ["#", "labelling", "m", "log P ± s.e. (nats)", *(titles.BOUNDS[each] for each in names)]
    headings += ["clean labels"] if clean else []
    rigorous = all(bound.is_bound for _, point in points for bound in point.bounds.values())
    note = (
        f"Upper bounds on the error of functions drawn from the posterior, from m examples, each with probability "
        f"{1 - about['delta']:g}; {titles.BOUNDS['valle-perez-louis']} is of one such function, with probability "
        f"{1 - about['delta'] - about['gamma']:g}."
        if rigorous
        else "Not bounds: log P is an estimate without a rigorous lower bound."
    )
    return [Table("PAC-Bayes bounds by labelling", headings, lines, 2, note)]


def _of_posteriors(rows: Rows, about: Mapping[str, Any], name: Callable[[int], str]) -> list[Table]:
    lines = []
    for index, row in rows:
        result = PosteriorResult(row)
        gibbs, vote, given = result.gibbs_error, result.vote_error, result.given
        cells = (
            str(index),
            name(index),
            nats(result.value, result.stderr),
            "–" if gibbs is None else f"{gibbs.value:.4f} ± {gibbs.stderr:.2g}",
            "–" if vote is None else f"{vote.value:.4f} ({vote.low:.4f} … {vote.high:.4f})",
            "–" if vote is None else f"{vote.uncertain:,}",
            "–" if given is None else nats(given.value, given.stderr),
        )
        lines.append(Line(cells, result.status, result.message))
    headings = (
        *("#", "labelling", "log P(training labels) (nats)", "Gibbs error", "vote error"),
        *("uncertain votes", "log P(test labels | training labels) (nats)"),
    )
    train, test = about["train"], about["n"] - about["train"]
    note = f"Posterior given the labels of the first {train:,} inputs, at the other {test:,}."
    return [Table("Posterior by labelling", headings, lines, 2, note)]


def _of_selections(rows: Rows, about: Mapping[str, Any], _: Callable[[int], str]) -> list[Table]:
    found = Selection.of_rows([row for _, row in rows], about)
    lines = []
    for each in found:
        a, log_p, error = each.architecture, each.log_p, each.test_error
        cells = (
            network(a),
            "optimised" if each.optimised else "as given",
            f"{a.weight_std:.4g}",
            f"{a.bias_std:.4g}",
            nats(log_p.value, log_p.stderr),
            nats(log_p.lower_bound(DELTA), log_p.stderr, False),
            "–" if error is None else f"{error.value:.4f} ({error.low:.4f} … {error.high:.4f})",
            duration(log_p.seconds),
        )
        lines.append(Line(cells, log_p.status, log_p.message))
    refused = [result for result in (CandidateResult(row) for _, row in rows) if result.candidate is None]
    lines += [Line(("–", *[""] * 7), each.status, each.message) for each in refused]
    headings = ("architecture", "σ_w and σ_b", "σ_w", "σ_b", "log P(S) ± s.e. (nats)", "lower bound (nats)")
    note = (
        "The largest log P of the training labels S first. The lower bound is rigorous: log P is at least this with "
        f"probability {1 - DELTA:g}, for one candidate. A PAC-Bayes bound for the best of them accounts for "
        f"{found.choices:,} possible choices."
    )
    return [Table("Architectures by log P(S)", (*headings, "vote error", "time"), lines, 2, note)]


def _of_samples(rows: Rows, *_: Any) -> list[Table]:
    samples = Samples(rows[0][1])
    complexities = list(samples[0].complexities) if samples else []
    lines = []
    for function in samples:
        labels = bits_of(function.labels)
        interval = function.frequency.interval(LEVEL) or ()
        cells = [f"{function.rank:,}", labels if len(labels) <= _LABELS else f"{labels[:_LABELS]}…"]
        cells += [f"{function.draws:,}", nats(function.frequency.value, function.frequency.stderr)]
        cells += [" … ".join(nats(end, function.frequency.stderr, False) for end in interval)]
        cells += [f"{function.complexities[each]:.4g}" for each in complexities]
        lines.append(Line(cells))
    facts = {
        "draws": f"{samples.draws:,}",
        "functions": f"{samples.functions:,}",
        "undecided": f"{samples.undecided:,}",
        "status": samples.status,
    }
    if samples.message:
        facts["message"] = samples.message
    headings = ["rank", "labels", "draws", "log frequency (nats)", f"{LEVEL:.0%} interval (nats)", *complexities]
    note = "Labels are 0 for -1 and 1 for +1, in the order of the inputs. Undecided draws have an output of exactly 0."
    return [Table("Most frequent functions", headings, lines, 2, note, facts)]


def _of_sharpness(rows: Rows, *_: Any) -> list[Table]:
    lines, facts = [], {}
    for row in (row for _, row in rows):
        result = SharpnessResult(row)
        if result.status != "ok":
            lines.append(Line((result.measure or "–", "–", "–", "", ""), result.status, result.message))
        for each in result.measurements:
            value = f"{each.value:.6g}" + ("" if each.stderr is None else f" ± {each.stderr:.2g}")
            cells = (each.measure, each.name, value, f"{each.gradients:,.0f}", duration(each.seconds))
            lines.append(Line(cells, each.status, each.message))
        facts |= {each: f"{float(row[each]):.6g}" for each in ("training_loss", "training_error") if each in row}
    headings = ("measure", "quantity", "value ± s.e.", "gradients", "time")
    note = "Gradients: cost in gradients of the whole data set."
    return [Table("Sharpness at the trained network", headings, lines, 2, note, facts)]


def _of_experiments(rows: Rows, about: Mapping[str, Any], _: Callable[[int], str]) -> list[Table]:
    if rows[-1][1].get("task") == STUDY:
        study = results_of_study([rows[-1][1]], about)
        functions = isinstance(study, FrequencyResults)
        names = ("kendall", "spearman", "pearson", "slope" if functions else "partial")
        lines = []
        for each in study.verdicts:
            where = f", {each.where}" if isinstance(each, FrequencyVerdict) and each.where else ""
            count = each.functions if isinstance(each, FrequencyVerdict) else each.networks
            cells = (f"{in_words(each.name)}{where}", *(_coefficient(getattr(each, name)) for name in names))
            lines.append(Line((*cells, f"{count:,}")))
        last, unit = ("slope", "functions") if functions else ("partial r", "networks")
        headings = ("quantity", "Kendall τ", "Spearman ρ", "Pearson r", last, unit)
        caption = f"Correlation with {'log frequency' if functions else 'test accuracy'}"
        found = [Table(caption, headings, lines, 1, study.summary)] if lines else []
        problems = [Line((problem,)) for problem in study.problems]
        return found + ([Table("Without a value", ("problem",), problems)] if problems else [])
    lines = []
    for index, row in rows:
        result = TaskResult(row)
        setting = ", ".join(f"{name} = {value}" for name, value in row.get("setting", {}).items())
        cells = (str(index), result.task or "–", row.get("quantity") or "", setting)
        lines.append(Line(cells, result.status, result.message))
    return [Table("Tasks", ("#", "task", "quantity", "setting"), lines, 4)]


def _of_kernels(rows: Rows, *_: Any) -> list[Table]:
    lines = []
    for row in (row for _, row in rows):
        cells = (row.get("kernel") or "–", size(row.get("bytes", 0)), duration(row.get("seconds", 0.0)))
        lines.append(Line(cells, row.get("status", "ok"), row.get("message", "")))
    return [Table("Kernel", ("key", "size", "time"), lines)]


def _coefficient(found: Coefficient) -> str:
    if found.value != found.value:  # NaN
        return "–"
    return f"{found.value:.3f}" if found.low != found.low else f"{found.value:.3f} ({found.low:.2f} … {found.high:.2f})"


_TABLES: dict[str, Callable[[Rows, Mapping[str, Any], Callable[[int], str]], list[Table]]] = {
    EstimateRequest.work: _of_estimates,
    BoundRequest.work: _of_bounds,
    PosteriorRequest.work: _of_posteriors,
    SelectionRequest.work: _of_selections,
    SampleRequest.work: _of_samples,
    SharpnessRequest.work: _of_sharpness,
    ExperimentRequest.work: _of_experiments,
    KernelRequest.work: _of_kernels,
}
