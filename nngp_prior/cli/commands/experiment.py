"""``nngp-prior experiment``: studies of which quantity predicts generalization."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nngp_prior.cli.common import options, output
from nngp_prior.cli.common.command import App
from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.experiments import Study
    from nngp_prior.experiments.analysis import Verdict

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
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Run a study and write its report. After an interruption the same command continues."""
    from nngp_prior.experiments import read_protocol
    from nngp_prior.experiments.study import expected_cost
    from nngp_prior.experiments.study import run as run_study
    from nngp_prior.numerics.threads import cores

    require_extra("plots")
    specification = read_protocol(protocol, overrides or ())
    where = folder or Path("experiments") / specification.name
    count = cores() if workers is None else workers
    if dry_run:
        cost = expected_cost(specification, where, max(count, 1))
        networks = number_of(specification.networks, "network")
        output.console.print(f"{specification.name}: {networks}, {cost or 'finished'}")
        return
    began = time.perf_counter()
    with output.ProgressBars() as bars:
        bar = bars.bar(specification.name, rows=True)
        study = run_study(specification, where, workers=count or None, progress=bar)
    _finish(study, json, f"{time.perf_counter() - began:.0f} s")


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
    from nngp_prior.experiments.analysis import verdicts

    if len(folders) < 2:
        raise InvalidInput("folders", f"got {len(folders)}", "Name the folders of at least two runs.")
    found = [{verdict.name: verdict for verdict in verdicts(load(folder))} for folder in folders]
    names = list(dict.fromkeys(name for each in found for name in each))
    if json:
        rows = [{name: verdict.as_json() for name, verdict in each.items()} for each in found]
        output.print_json([{"folder": str(folder), "verdicts": row} for folder, row in zip(folders, rows, strict=True)])
        return
    table = output.table(
        *(folder.name for folder in folders), title="Kendall's τ with the test accuracy", rows="quantity"
    )
    for name in names:
        cells = [
            f"{each[name].kendall.value:.3f} ({each[name].kendall.low:.2f} … {each[name].kendall.high:.2f})"
            if name in each
            else "–"
            for each in found
        ]
        table.add_row(name, *cells)
    output.print_table(table)


def _finish(study: Study, json: bool, time_taken: str) -> None:
    from nngp_prior.experiments.analysis import summary
    from nngp_prior.experiments.changes import changes, summary_of_course
    from nngp_prior.experiments.report import write_report

    found, changed = write_report(study), changes(study)
    if json:
        of_course = {} if study.protocol.course is None else {"changes": [each._asdict() for each in changed]}
        verdicts = [each.as_json() for each in found]
        output.print_json({"study": study.protocol.as_json, "verdicts": verdicts, **of_course})
        return
    if study.protocol.course is None:
        _print_verdicts(study, found)
    output.console.print(summary(found) if found else summary_of_course(changed), highlight=False)
    for problem in study.problems[:10]:
        output.note(problem)
    if len(study.problems) > 10:
        output.note(f"… {len(study.problems) - 10} more in the report")
    output.console.print(
        f"{number_of(study.finished, 'network')} of {study.total:,}; "
        f"report: {study.folder / 'report.html'} {time_taken}".strip()
    )


def _print_verdicts(study: Study, found: Sequence[Verdict]) -> None:
    from nngp_prior.experiments.analysis import in_words

    table = output.table("Kendall τ", "interval", "Spearman", "Pearson", title=study.protocol.title, rows="quantity")
    for verdict in found:
        table.add_row(
            in_words(verdict.name),
            f"{verdict.kendall.value:.3f}",
            f"{verdict.kendall.low:.2f} … {verdict.kendall.high:.2f}",
            f"{verdict.spearman.value:.3f}",
            f"{verdict.pearson.value:.3f}",
        )
    output.print_table(table)
