"""``nngp-prior sharpness measure``: how flat the loss is at trained networks."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.markup import escape

from nngp_prior.cli import options, output, trained_networks
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.sharpness import DEFAULT, MEASURES_BY_KIND, Measure, Measurement, Report, measure_of

_MEASURE: TypeAdapter[Measure] = TypeAdapter(Measure)


def measure(
    file: trained_networks.File,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            help=f"{', '.join(MEASURES_BY_KIND)}; with options as in trace:probes=200,layer=each, or a specification "
            f"(.json); may be repeated [{', '.join(DEFAULT)}]",
        ),
    ] = None,
    network: Annotated[
        list[int] | None, typer.Option(help="a network's number; may be repeated; default: all in the file")
    ] = None,
    epoch: trained_networks.Epoch = None,
    on: trained_networks.On = "training",
    loss: trained_networks.Loss = None,
    dtype: trained_networks.Dtype = "float64",
    seed: Annotated[int, typer.Option(help="of random vectors")] = 0,
    json: options.Json = False,
) -> None:
    """Measure how flat the loss is at trained networks: eigenvalues, traces, norms."""
    specifications = [_specification(text) for text in measures or DEFAULT]
    found = trained_networks.open_networks(file, on)
    places = trained_networks.places(found.trained, network)
    from nngp_prior.sharpness.measuring import checked, measure_problem

    reports: dict[int, Report] = {}
    with output.ProgressBars() as bars:
        for i in places:
            problem = found.problem(i, epoch, loss, dtype)
            checked(problem, specifications)
            number = found.trained.seeds[i]
            reports[number] = measure_problem(problem, specifications, seed, bars.bar(f"network {number}"))
    if json:
        networks = [{"network": number, **report.document()} for number, report in reports.items()]
        output.print_json({"file": str(file), "on": on, "epoch": epoch, **found.source, "networks": networks})
        return
    for number, report in reports.items():
        _print(f"network {number}: {found.title}, {report.parameters:,} parameters", report)


def _specification(text: str) -> Measure:
    """A measure from ``kind``, ``kind:option=value,…`` or the name of a JSON file."""
    if text.endswith(".json"):
        return _MEASURE.validate_python(options.read_json(Path(text)))
    kind, _, rest = text.partition(":")
    fields: dict[str, Any] = {}
    for part in rest.split(",") if rest else []:
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidInput("--measure", f"got {text!r}", "Write options as in trace:probes=200,layer=each.")
        try:
            fields[name] = json_.loads(value)
        except json_.JSONDecodeError:
            fields[name] = value
    return measure_of(kind, **fields)


def _print(title: str, report: Report) -> None:
    table = output.table("value", "standard\nerror", "gradients", "s", "\nstatus", title=title, rows="figure")
    unit = " nats" if report.loss == "cross-entropy" else ""
    for each in report:
        error = "–" if each.stderr is None else f"{each.stderr:.2g}"
        gradients = f"{each.gradients:,.4g}"
        table.add_row(escape(each.name), f"{each.value:.6g}", error, gradients, f"{each.seconds:.1f}", each.status)
    output.print_table(table)
    output.console.print(
        f"{report.loss} {report.training_loss:.6g}{unit}, error {report.training_error:.3%}, "
        f"gradient norm {report.gradient_norm:.3g}",
        highlight=False,
    )
    for each in report:
        _note(each)


def _note(each: Measurement) -> None:
    if each.message:
        output.note(f"{each.name}: {each.message}")
