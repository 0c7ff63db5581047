"""Several jobs side by side: what differs in their requests, and their numbers at equal labellings or quantities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from api.jobs.models import Job
from nngp_prior import style
from nngp_prior.schemas.requests import ExperimentRequest, SampleRequest, SelectionRequest, SharpnessRequest
from nngp_prior.schemas.results.base import LEVEL, Result
from nngp_prior.schemas.results.experiment import STUDY
from nngp_prior.schemas.results.frequencies import results_of_study
from nngp_prior.schemas.results.sample import Samples, bits_of
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.results.sharpness import SharpnessResult
from nngp_prior.schemas.text import nats, short

_LOG_P, _FREQUENCY, _KENDALL, _VALUE = "log P (nats)", "log frequency (nats)", "Kendall τ", "value"
_QUANTITIES = {
    SampleRequest.work: _FREQUENCY,
    ExperimentRequest.work: _KENDALL,
    SharpnessRequest.work: _VALUE,
}


class Number(NamedTuple):
    """Number of a job.

    Attributes:
        value: the number.
        low: lower end of its interval; the number itself if there is none.
        high: upper end.
        text: the number with its error.
    """

    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Compared:
    """Job to compare.

    Attributes:
        job: the job.
        request: its request as JSON.
        numbers: its numbers by name of the labelling, function or quantity.
    """

    job: Job
    request: Mapping[str, Any]
    numbers: Mapping[str, Number]

    @property
    def title(self) -> str:
        """Name of the job, or the beginning of its id."""
        return self.job.names.name or self.job.id[:10]

    @property
    def quantity(self) -> str:
        """Name of its numbers, with their unit."""
        return _QUANTITIES.get(self.job.kind, _LOG_P)


def numbers_of(
    kind: str, rows: Sequence[dict[str, Any]], about: Mapping[str, Any], name: Callable[[int], str]
) -> dict[str, Number]:
    """Return the numbers of a job by what they are of.

    Args:
        kind: kind of work.
        rows: results.
        about: part of the results document above the rows.
        name: function that names a row's labelling.

    Returns:
        numbers by name; rows without a number are left out.
    """
    return {key: number for key, number in _numbers(kind, rows, about, name) if math.isfinite(number.value)}


def _numbers(
    kind: str, rows: Sequence[dict[str, Any]], about: Mapping[str, Any], name: Callable[[int], str]
) -> Iterator[tuple[str, Number]]:
    match kind:
        case ExperimentRequest.work if rows and rows[-1].get("task") == STUDY:
            for verdict in results_of_study(rows, about).verdicts:
                value, low, high = verdict.kendall
                where = getattr(verdict, "where", "")
                yield (
                    f"{verdict.name}, {where}" if where else verdict.name,
                    Number(value, low, high, f"{value:.3f} ({low:.2f} … {high:.2f})"),
                )
        case SampleRequest.work if rows:
            for function in Samples(rows[0], about):
                yield bits_of(function.labels), _of_result(function.frequency)
        case SelectionRequest.work:
            for each in Selection.of_rows(rows, about):
                yield each.title, _of_result(each.log_p)
        case SharpnessRequest.work:
            for each in (each for row in rows for each in SharpnessResult(row).measurements):
                error = each.stderr or 0.0
                text = f"{each.value:.6g}" + ("" if each.stderr is None else f" ± {each.stderr:.2g}")
                yield each.name, Number(each.value, each.value - error, each.value + error, text)
        case _:
            for row in (row for row in rows if "log_p" in row):
                yield name(row["labelling"]), _of_result(Result(row))


def _of_result(result: Any) -> Number:
    low, high = result.interval(LEVEL) or (result.value, result.value)
    return Number(result.value, low, high, nats(result.value, result.stderr))


def differences(jobs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Return the fields of the requests that differ.

    Args:
        jobs: jobs to compare.

    Returns:
        name of each field, and its value in each job; empty where a request has no such field.
    """
    flat = [{"kind": each.job.kind, **dict(_leaves(each.request))} for each in jobs]
    names = dict.fromkeys(name for fields in flat for name in fields)
    found = [(name, [fields.get(name) for fields in flat]) for name in names]
    return [
        (name, ["" if value is None else short(value).strip("'") for value in values])
        for name, values in found
        if len({json.dumps(value, default=str) for value in values}) > 1
    ]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        yield name, len(value)
        for i, part in enumerate(value):
            yield from _leaves(part, f"{name}.{i}")
    else:
        yield name, value


def table(jobs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Return each name with the numbers of all jobs as texts; empty where a job has none."""
    names = dict.fromkeys(name for each in jobs for name in each.numbers)
    return [(name, [each.numbers[name].text if name in each.numbers else "" for each in jobs]) for name in names]


def can_scatter(jobs: Sequence[Compared]) -> bool:
    """True if all jobs have the same quantity, and the first one shares a name with another."""
    first, *others = jobs
    shared = any(set(first.numbers) & set(each.numbers) for each in others)
    return shared and len({each.quantity for each in jobs}) == 1


def scatter(jobs: Sequence[Compared], path: Path) -> None:
    """Draw the numbers of all other jobs against those of the first one, with intervals.

    Args:
        jobs: jobs for which :func:`can_scatter` is true.
        path: file to write.
    """
    first, *others = jobs
    with style.figure(path, "", figsize=(6.4, 5)) as (_, axis):
        for each, colour in zip(others, style.COLOURS * len(others), strict=False):
            names = [name for name in first.numbers if name in each.numbers]
            x, y = ([of.numbers[name] for name in names] for of in (first, each))
            ends = [
                [[n.value - n.low if math.isfinite(n.low) else 0 for n in numbers],
                 [n.high - n.value if math.isfinite(n.high) else 0 for n in numbers]]
                for numbers in (x, y)
            ]  # fmt: skip
            axis.errorbar([n.value for n in x], [n.value for n in y], ends[1], ends[0], fmt="o", ms=4, elinewidth=0.9,
                          color=colour, label=_plain(each.title))  # fmt: skip
        low, high = (pick(axis.get_xlim() + axis.get_ylim()) for pick in (min, max))
        axis.plot([low, high], [low, high], color="grey", lw=0.8, ls=":", zorder=0)
        axis.set(xlabel=f"{first.quantity}, {_plain(first.title)}", ylabel=first.quantity)
        axis.legend()


def _plain(text: str) -> str:
    """Return a text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
