"""``nngp-prior sharpness measure``: sharpness of the loss at trained networks."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import TypeAdapter
from rich.markup import escape

from nngp_prior.cli.common import options, output, remote, trained_networks
from nngp_prior.cli.common.command import naming
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.registry import DEFAULT, MEASURES_BY_KIND, Measure, measure_of
from nngp_prior.schemas.results.sharpness import Report, SharpnessResult, SharpnessResults

_MEASURE: TypeAdapter[Measure] = TypeAdapter(Measure)


def measure(
    context: typer.Context,
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
        list[int] | None, typer.Option(help="number of a network; may be repeated; default: all in the file")
    ] = None,
    epoch: trained_networks.Epoch = None,
    on: trained_networks.On = "training",
    inputs_file: options.InputsFile = None,
    labels_file: options.LabelsFile = None,
    loss: trained_networks.Loss = None,
    dtype: options.Dtype = "float64",
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    service: remote.ServiceOptions = remote.IN_PROCESS,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Measure the sharpness of the loss at trained networks: eigenvalues, traces, norms."""
    specifications = [_specification(text) for text in measures or DEFAULT]
    options.refuse_ignored(context, {"inputs_file": ("on",)})
    found = trained_networks.open_networks(file, on, inputs_file, labels_file)
    if service.url is not None:
        trained_networks.require_one_output(found.trained, file, "the service", "Leave --url out.")
    places = trained_networks.places(found.trained, network)
    asked = _Asked(found, places, specifications, epoch, loss, dtype, seed)
    taken = _here(asked) if service.url is None else _there(service, asked)
    numbers, statuses = ([each[i] for i in places] for each in (found.trained.seeds, found.trained.statuses))
    trained_networks.note_statuses(found.trained, places)
    if json or csv:
        networks = [
            {"network": number, "status": status, **each.document}
            for number, status, each in zip(numbers, statuses, taken, strict=True)
        ]
        if csv:
            names = ("network", "status")
            figures = [
                {**{name: each[name] for name in names}, **figure}
                for each in networks
                for figure in each["measurements"]
            ]
            output.print_rows({"figures": figures}, "figures", csv=True)
            return
        output.print_json({"file": str(file), "on": on, "epoch": epoch, **found.source, "networks": networks})
        return
    for number, each in zip(numbers, taken, strict=True):
        _print(f"network {number}: {found.title}, {each.report.parameters:,} parameters", each)


class _Asked(NamedTuple):
    found: trained_networks.TrainedFile
    places: list[int]
    specifications: list[Measure]
    epoch: int | None
    loss: str | None
    dtype: str
    seed: int


class _Measured(NamedTuple):
    """Figures of one network; with the measures that a service does not offer."""

    report: Report
    refused: list[SharpnessResult]

    @classmethod
    def of(cls, results: SharpnessResults) -> _Measured:
        return cls(results.report, [result for result in results if result.status != "ok"])

    @property
    def document(self) -> dict[str, Any]:
        return self.report.document() | ({"refused": [each.row for each in self.refused]} if self.refused else {})


def _here(asked: _Asked) -> list[_Measured]:
    """Compute figures in this process."""
    from nngp_prior.sharpness.measurement import checked, measure_risk

    taken = []
    with output.ProgressBars() as bars:
        for i in asked.places:
            risk = asked.found.risk(i, asked.epoch, asked.loss, asked.dtype)
            checked(risk, asked.specifications)
            bar = bars.bar(f"network {asked.found.trained.seeds[i]}", rows=True)
            taken.append(_Measured(measure_risk(risk, asked.specifications, asked.seed, bar), []))
    return taken


def _there(service: remote.ServiceOptions, asked: _Asked) -> list[_Measured]:
    """Compute figures on a service: one job per network, all submitted at once."""
    from nngp_prior.client import Client

    trained = asked.found.trained
    architecture: Any = trained.architecture  # a specification: users' own networks are not supported here
    networks = [trained.network(i, asked.epoch) for i in asked.places]
    with Client(service.url) as client:
        jobs = [
            client.sharpness(
                architecture, parameters, *asked.found.data, asked.specifications,
                loss=asked.loss or trained.training.loss, dtype=asked.dtype, seed=asked.seed,
                **service.names,
            )
            for parameters in networks
        ]  # fmt: skip
        return [_Measured.of(results) for results in remote.all_waited_for(jobs)]


def _specification(text: str) -> Measure:
    """Parse a measure from ``kind``, ``kind:option=value,…`` or the name of a JSON file."""
    if text.endswith(".json"):
        content = options.read_json(Path(text))
        with naming({}, "--measure"):
            return _MEASURE.validate_python(content)
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
    with naming({"measures": "--measure"}, "--measure"):
        return measure_of(kind, **fields)


def print_measures(results: SharpnessResults) -> None:
    """Print measures computed by a service.

    Args:
        results: results of one network.
    """
    measured, about = _Measured.of(results), results.about
    _print(f"{about['architecture']['kind']}, {about['n']:,} inputs, {about['parameters']:,} parameters", measured)


def _print(title: str, measured: _Measured) -> None:
    report = measured.report
    table = output.table("value", "standard\nerror", "gradients", "s", "\nstatus", title=title, rows="figure")
    unit = " nats" if report.loss == "cross-entropy" else ""
    for each in report.values():
        error = "–" if each.stderr is None else f"{each.stderr:.2g}"
        gradients = f"{each.gradients:,.4g}"
        table.add_row(escape(each.name), f"{each.value:.6g}", error, gradients, f"{each.seconds:.1f}", each.status)
    output.print_table(table)
    output.console.print(
        f"{report.loss} {report.training_loss:.6g}{unit}, error {report.training_error:.3%}, "
        f"gradient norm {report.gradient_norm:.3g}",
        highlight=False,
    )
    for each in report.values():
        if each.message:
            output.note(f"{each.name}: {each.message}")
    for refused in measured.refused:
        output.note(f"{refused.measure or 'measure'} [{refused.status}]: {refused.message}")
