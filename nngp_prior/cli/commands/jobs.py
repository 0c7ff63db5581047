"""``nngp-prior jobs``: jobs of a service."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from nngp_prior.cli.commands.bound import print_bounds
from nngp_prior.cli.commands.experiment import print_study
from nngp_prior.cli.commands.posterior import print_posteriors
from nngp_prior.cli.commands.sample import print_samples
from nngp_prior.cli.commands.select import about_of, print_selection
from nngp_prior.cli.commands.sharpness.measure import print_measures
from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.command import App
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.base import DELTA
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.experiment import ExperimentResults
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.results.sharpness import SharpnessResults

if TYPE_CHECKING:
    from nngp_prior.client import Client, Status

app = App(help="Manage the jobs of a service.")
_LONGEST = 40  # characters of a name, or of tags, in a list

Url = Annotated[str | None, typer.Option("--url", envvar="NNGP_URL", help="URL of the service [that of NNGP_HOME]")]
Id = Annotated[str, typer.Argument(help="id of the job, or its first characters")]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Option(help="text in the names of the jobs; case does not matter")] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="tag of the jobs; may be repeated: jobs with all of them")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="state of the jobs: accepted, running, successful, failed or dismissed; default: any"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of jobs")] = 50,
    url: Url = None,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    wanted = remote.job_names(None, tags)["tags"]
    with _client(url) as client:
        found = [job.last for job in itertools.islice(client.jobs(state, name=name, tags=wanted), limit)]
    if json or csv:
        output.print_rows({"jobs": [status.document for status in found]}, "jobs", csv=csv)
        return
    named = any(status.name or status.tags for status in found)
    about = ("kind", "data", "n", "architecture", "method")
    headings = ("job", *(("name", "tags") if named else ()), *about, "state", "done", "created")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for status in found:
        cells = [str(status.document.get(name) or "–") for name in about]
        if named:
            cells = [_brief(status.name or "–"), _brief(", ".join(status.tags) or "–"), *cells]
        done = f"{status.current:,}/{status.target:,}"
        table.add_row(status.id[:8], *cells, status.state, done, _time(status, "created")[5:16].replace("T", " "))
    output.print_table(table)


@app.command()
def show(id: Id, url: Url = None, json: options.Json = False) -> None:
    """Show the state of a job."""
    with _client(url) as client:
        status = client.job(id).last
    _show(status, json)


@app.command()
def watch(id: Id, url: Url = None, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Wait for the end of a job; exit status 1 if it failed or was dismissed."""
    with _client(url) as client:
        job = client.job(id)
        with output.ProgressBars() as bars:
            job.wait(progress=bars.bar(job.last.title, rows=True))
    _show(job.last, json)
    if job.last.state != "successful":
        sys.exit(1)


@app.command()
def results(id: Id, url: Url = None, csv: options.Csv = False, json: options.Json = False) -> None:
    """Print the results of a finished job."""
    with _client(url) as client:
        found = client.job(id).result(timeout=0)
    if isinstance(found, ExperimentResults) and (json or csv):
        output.print_rows(found.document(), "rows", csv=csv)
    elif isinstance(found, ExperimentResults):
        print_study(found, json=False)
    elif isinstance(found, Selection):
        about = {"units": "nats", "labelling": found.about["labelling"], **about_of(found)}
        print_selection(found, about, csv=csv, json=json)
    elif json or csv:
        rows = [found.row] if isinstance(found, Samples) else [result.row for result in found]
        if csv:
            rows = list(_lines(rows))
        output.print_rows({**found.about, "results": rows}, "results", csv=csv)
    elif isinstance(found, Samples):
        print_samples(found)
    elif isinstance(found, BoundResults):
        for result in found:
            print_bounds(result, found.about)
    elif isinstance(found, PosteriorResults):
        print_posteriors([str(result.labelling) for result in found], found, found.about)
    elif isinstance(found, SharpnessResults):
        print_measures(found)
    else:
        output.print_results([(str(result.labelling), result) for result in found], DELTA)


@app.command()
def tag(
    id: Id,
    name: Annotated[str | None, typer.Option(help="new name of the job; empty: no name")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="tag to add; may be repeated")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="tag to remove; may be repeated")] = None,
    url: Url = None,
    json: options.Json = False,
) -> None:
    """Change the name or the tags of a job, in any state."""
    if name is None and not tags and not untag:
        raise InvalidInput("--name, --tag or --untag", "none of them was given", "Give at least one.")
    with _client(url) as client, remote.naming_options():
        status = client.job(id).edit(name=name, add_tags=tags or (), remove_tags=untag or ())
    _show(status, json)


@app.command()
def dismiss(id: Id, url: Url = None, json: options.Json = False) -> None:
    """Stop a job; finished rows are kept for another attempt."""
    with _client(url) as client:
        status = client.job(id).dismiss()
    _show(status, json)


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the CSV: bounds, one per number of examples; samples, one per function."""
    for row in rows:
        inner = next((name for name in ("points", "top") if row.get(name)), None)
        if inner is None:
            yield row
        else:
            outer = {name: value for name, value in row.items() if name != inner and not isinstance(value, list | dict)}
            yield from ({**outer, **part} for part in row[inner])


def _client(url: str | None) -> Client:
    from nngp_prior.client import Client

    return Client(url)


def _show(status: Status, json: bool) -> None:
    if json:
        output.print_json(status.document)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("id", status.id)
    table.add_row("name", escape(status.name or "–"))
    table.add_row("tags", escape(", ".join(status.tags) or "–"))
    for name in ("kind", "data", "n", "architecture", "method", "state"):
        table.add_row(name, str(status.document.get(name) or "–"))
    table.add_row("done", status.done)
    for name in ("attempt", "losses"):
        table.add_row(name, str(status.document.get(name, "–")))
    for name in ("created", "started", "finished"):
        table.add_row(name, _time(status, name))
    output.print_table(table)
    if status.error is not None:
        output.note(str(status.error.get("detail", status.error)))


def _brief(text: str) -> str:
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _time(status: Status, name: str) -> str:
    return str(status.document.get(name) or "–")
