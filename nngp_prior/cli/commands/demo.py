"""``nngp-prior demo``: log P and bounds on real data, with a table and a plot."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from nngp_prior.cli.commands.serve import passing_service
from nngp_prior.cli.common import output
from nngp_prior.cli.common.parsing import describe, parse_dataset
from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra
from nngp_prior.progress import Progress
from nngp_prior.schemas import titles
from nngp_prior.schemas.results.base import Result, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Constant, Labelling, OneVsRest, RandomLabels, Threshold

_DELTA = 0.05


def demo(
    data: Annotated[str, typer.Option(help="data set: digits, mnist, fashion-mnist or cifar10")] = "digits",
    n: Annotated[int, typer.Option("-n", "--n", help="number of inputs")] = 1000,
    folder: Annotated[Path, typer.Option(help="folder for the plot and its data")] = Path("demo"),
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Compare four labellings of a data set: log P with its standard error, EP's value, bounds, a plot.

    Starts a service, uses it through the client, and stops it.
    """
    from nngp_prior.client import Client
    from nngp_prior.prior.pac_bayes import pac_bayes_bounds

    began = time.perf_counter()
    require_extra("service")
    _require_plots(folder)
    labellings: list[Labelling] = [Threshold(at=5), OneVsRest(label=3), RandomLabels(seed=1), Constant()]
    architecture, dataset = FullyConnected(), parse_dataset({"kind": data, "n": n})
    with output.ProgressBars() as bars:
        start = bars.bar("service")
        start(Progress("starting", 0, 1))
        with passing_service() as (url, token), Client(url, token) as client:
            start(Progress("ready", 1, 1))
            job = client.estimate(architecture, dataset, labellings)
            answer = job.result(progress=bars.bar(f"log P, {n:,} {data}"))
    _make(folder)
    results = {describe(labelling): _estimate(result) for labelling, result in zip(labellings, answer, strict=True)}
    bounds = {name: pac_bayes_bounds(result, _DELTA)["realizable"] for name, result in results.items()}
    title = f"{n:,} {titles.data({'kind': data}, split=False)}, {titles.network(architecture)}"
    document = {
        **answer.about,
        "results": [
            {"name": name, **row_of(i, result, delta=_DELTA), "pac_bayes": bounds[name].model_dump(mode="json")}
            for i, (name, result) in enumerate(results.items())
        ],
    }
    plot = _write(folder, data, title, document, results, {name: bound.value for name, bound in bounds.items()})
    if json:
        output.print_json(document)
        return
    table = output.table(
        "log P ± s.e.\n(nats)", "EP\n(nats)", "lower bound*\n(nats)", "PAC-Bayes\nbound*", "\ns", title=title
    )
    for name, result in results.items():
        table.add_row(
            name,
            output.nats(result.value, result.stderr),
            f"{result.diagnostics['log_z_ep']:.2f}",
            output.nats(result.lower_bound(_DELTA)),
            f"{bounds[name].value:.3f}",
            f"{result.seconds:.1f}",
        )
    output.print_table(table)
    for name, result in results.items():
        if result.message:
            output.note(f"{name}: {result.message}")
    output.console.print(
        f"* holds with probability {1 - _DELTA:g}; PAC-Bayes: on the error of the posterior given the labels"
    )
    output.console.print(f"Plot: {plot}   ({time.perf_counter() - began:.0f} s in all)")


def _estimate(result: Result) -> Estimate:
    if result.estimate is None:
        raise InvalidInput("--data", result.message, "Choose a data set with the classes 0 … 9.")
    return result.estimate


def _require_plots(folder: Path) -> None:
    """Check before the computation that the plot can be made."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InvalidInput("--folder", f"{existing} is no folder that can be written to", "Name another one.")
    output.require_plots("--folder", existing / "plot.png")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput("--folder", f"{folder} cannot be made ({error})", "Name another one.") from None


def _write(
    folder: Path,
    data: str,
    title: str,
    document: dict,
    results: dict[str, Estimate],
    bounds: dict[str, float],
) -> Path:
    """Write the plot and, next to it, its data; return the plot's path."""
    from nngp_prior.cli.plots.labellings import plot_labellings

    (folder / f"{data}.json").write_text(output.json_text(document), encoding="utf-8")
    path = folder / f"{data}.png"
    plot_labellings(path, title, results, bounds, _DELTA)
    return path
