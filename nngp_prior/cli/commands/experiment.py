"""``nngp-prior experiment``: studies of which quantity predicts generalization."""

from __future__ import annotations

import json as json_
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.command import App
from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.experiments import FrequencyStudy, Study
    from nngp_prior.schemas.results.experiment import ExperimentResults, Verdict
    from nngp_prior.schemas.results.frequencies import FrequencyVerdict

app = App(name="experiment", help="Run studies: which quantity predicts generalization, log P or flatness?")

_Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of the results [experiments/NAME].")]


@app.command()
def run(
    protocol: Annotated[str, typer.Argument(help="Name of a protocol (see experiment list), or a .toml file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: axes.attack=0,100,200 or seeds=3. Repeatable.")
    ] = None,
    folder: _Folder = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes [one per core]; 0: this process alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the number of networks and the cost only.")] = False,
    service: remote.ServiceOptions = remote.IN_PROCESS,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Run a study and write its report. After an interruption the same command continues."""
    from nngp_prior.schemas.protocol_files import read_protocol

    specification = read_protocol(protocol, overrides or ())
    where = folder or Path("experiments") / specification.name
    if service.url is not None:
        remote.require_default("workers", workers, None)
        _run_there(service, specification, where, dry_run, json)
        return
    from nngp_prior.experiments.study import expected_cost
    from nngp_prior.experiments.study import run as run_study
    from nngp_prior.numerics.threads import cores

    require_extra("plots")
    count = cores() if workers is None else workers
    if dry_run:
        cost = expected_cost(specification, where, max(count, 1))
        networks = number_of(specification.networks, "network")
        output.console.print(f"{specification.name}: {networks}, {cost or 'finished'}")
        return
    began = time.perf_counter()
    with output.ProgressBars() as bars:
        bar = bars.bar(f"{specification.name}, {number_of(specification.networks, 'network')}", rows=True)
        study = run_study(specification, where, workers=count or None, progress=bar)
    _finish(study, json, f"{time.perf_counter() - began:.0f} s")


def _run_there(service: remote.ServiceOptions, protocol: Any, folder: Path, dry_run: bool, json: bool) -> None:
    """Have a service run a study, and write its report here."""
    from nngp_prior.client import Client
    from nngp_prior.schemas.cost import Cost
    from nngp_prior.schemas.requests import ExperimentRequest

    with Client(service.url) as client:
        if dry_run:
            found = client.cost(ExperimentRequest(protocol=protocol))
            networks = number_of(protocol.networks, "network")
            output.console.print(f"{protocol.name}: {networks}, {Cost(found['bytes'], found['seconds'])}")
            return
        began = time.perf_counter()
        job = client.experiment(protocol, **service.names)
        results = remote.waited_for(job)
        folder.mkdir(parents=True, exist_ok=True)
        for kind, name in (("html", "report.html"), ("markdown", "report.md"), ("csv", "results.csv")):
            (folder / name).write_text(job.report(kind), encoding="utf-8")
    verdicts = [each.as_json() for each in results.verdicts]
    (folder / "verdicts.json").write_text(json_.dumps(verdicts, indent=2) + "\n")
    print_study(results, json, f"report: {folder / 'report.html'} {time.perf_counter() - began:.0f} s")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    json: options.Json = False,
) -> None:
    """Write the report of a run again, and print its table."""
    from nngp_prior.experiments import load

    _finish(load(folder), json, "")


@app.command("list")
def list_() -> None:
    """List the protocols of the package."""
    from nngp_prior.experiments import built_in

    table = output.table("networks", "title", rows="protocol")
    table.columns[2].justify = "left"
    for name, protocol in built_in().items():
        table.add_row(name, f"{protocol.networks:,}", protocol.title)
    output.print_table(table)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of two or more runs.")],
    json: options.Json = False,
) -> None:
    """Print Kendall's τ of each quantity in several runs side by side."""
    from nngp_prior.experiments import load

    if len(folders) < 2:
        raise InvalidInput("folders", f"got {len(folders)}", "Name the folders of at least two runs.")
    found = [_verdicts(load(folder)) for folder in folders]
    if len({target for target, _ in found}) > 1:
        raise InvalidInput("folders", "are studies of different kinds", "Compare studies of networks, or of functions.")
    if json:
        rows = [{name: verdict.as_json() for name, verdict in each.items()} for _, each in found]
        output.print_json([{"folder": str(folder), "verdicts": row} for folder, row in zip(folders, rows, strict=True)])
        return
    table = output.table(*(folder.name for folder in folders), title=f"Kendall's τ with {found[0][0]}", rows="quantity")
    for name in dict.fromkeys(name for _, each in found for name in each):
        taus = [each[name].kendall if name in each else None for _, each in found]
        cells = ["–" if tau is None else f"{tau.value:.3f} ({tau.low:.2f} … {tau.high:.2f})" for tau in taus]
        table.add_row(name, *cells)
    output.print_table(table)


def _verdicts(study: Study | FrequencyStudy) -> tuple[str, dict[str, Any]]:
    """Return what quantities of a study are correlated with, and its verdicts by quantity."""
    from nngp_prior.experiments import Study
    from nngp_prior.experiments.analysis import verdicts
    from nngp_prior.experiments.frequencies import analysis

    if isinstance(study, Study):
        return "the test accuracy", {verdict.name: verdict for verdict in verdicts(study)}
    trained = study.protocol.training is not None
    return "log frequency", {analysis.title_of(verdict, trained): verdict for verdict in analysis.verdicts(study)}


def _finish(study: Study | FrequencyStudy, json: bool, time_taken: str) -> None:
    """Write the report of a study, and print its table."""
    from nngp_prior.experiments import FrequencyStudy
    from nngp_prior.experiments.analysis import summary
    from nngp_prior.experiments.changes import changes, summary_of_course
    from nngp_prior.experiments.frequencies.analysis import summary as summary_of_functions
    from nngp_prior.experiments.report import write_report

    where = f"report: {study.folder / 'report.html'} {time_taken}".strip()
    if isinstance(study, FrequencyStudy):
        found, trained = write_report(study), study.protocol.training is not None
        outcome = " ".join(summary_of_functions(found, trained))
        _print(study.protocol, found, [], outcome, study.problems, json, study.state, where)
        return
    found, changed = write_report(study), changes(study)
    _print(
        study.protocol,
        found,
        [each._asdict() for each in changed],
        summary(found) if found else summary_of_course(changed),
        study.problems,
        json,
        f"{number_of(study.finished, 'network')} of {study.total:,}",
        where,
    )


def print_study(results: ExperimentResults, json: bool, where: str = "") -> None:
    """Print the results of a study that a service ran.

    Args:
        results: the results.
        json: True for JSON.
        where: where the report is.
    """
    _print(
        results.protocol,
        results.verdicts,
        results.changes,
        results.summary,
        results.problems,
        json,
        results.state,
        where,
    )


def _print(
    protocol: Protocol | FrequencyProtocol,
    verdicts: Sequence[Any],
    changes: Sequence[Mapping[str, Any]],
    outcome: str,
    problems: Sequence[str],
    json: bool,
    done: str,
    where: str,
) -> None:
    if json:
        of_course = {"changes": changes} if isinstance(protocol, Protocol) and protocol.course is not None else {}
        found = [each.as_json() for each in verdicts]
        output.print_json({"study": protocol.as_json, "verdicts": found, **of_course})
        return
    if isinstance(protocol, FrequencyProtocol):
        _print_functions(protocol, verdicts)
    elif protocol.course is None:
        _print_verdicts(protocol, verdicts)
    _print_outcome(outcome, problems, done, where)


def _print_outcome(outcome: str, problems: Sequence[str], done: str, where: str) -> None:
    if outcome:
        output.console.print(outcome, highlight=False)
    for problem in problems[:10]:
        output.note(problem)
    if len(problems) > 10:
        output.note(f"… {len(problems) - 10} more in the report")
    output.console.print(f"{done}; {where}" if where else done)


def _print_functions(protocol: FrequencyProtocol, verdicts: Sequence[FrequencyVerdict]) -> None:
    from nngp_prior.experiments.frequencies.analysis import title_of

    columns = ("slope", "bias", "scatter", "Pearson", "Kendall τ")
    table = output.table(*columns, title=protocol.title, rows="quantity")
    for each in verdicts:
        values = [c.value for c in (each.slope, each.bias, each.scatter, each.pearson, each.kendall)]
        name = title_of(each, protocol.training is not None)
        table.add_row(name, *("–" if math.isnan(value) else f"{value:.3f}" for value in values))
    output.print_table(table)


def _print_verdicts(protocol: Protocol, verdicts: Sequence[Verdict]) -> None:
    from nngp_prior.schemas.titles import in_words

    table = output.table("Kendall τ", "interval", "Spearman", "Pearson", title=protocol.title, rows="quantity")
    for verdict in verdicts:
        table.add_row(
            in_words(verdict.name),
            f"{verdict.kendall.value:.3f}",
            f"{verdict.kendall.low:.2f} … {verdict.kendall.high:.2f}",
            f"{verdict.spearman.value:.3f}",
            f"{verdict.pearson.value:.3f}",
        )
    output.print_table(table)
