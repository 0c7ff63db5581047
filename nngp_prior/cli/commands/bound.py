"""``nngp-prior bound``: PAC-Bayes bounds on the generalization error, for one or more training set sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.command import naming
from nngp_prior.cli.common.measured_error import MeasuredError, measured_errors
from nngp_prior.cli.common.parsing import Given, describe_corruption, parse_corruption
from nngp_prior.cli.common.tasks import for_classes, task_of
from nngp_prior.cli.plots.bound import Curve, plot_bounds
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas import titles
from nngp_prior.schemas.results.bound import BoundResult, PacBayesBound, bound_row
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.data import BlobLabellings, Corruption
from nngp_prior.schemas.specs.estimator import Estimator, classes_of, estimator_of, more_than_two
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.specs.labels import check_labels_for
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

_IGNORED = {
    "kernel_file": ("inputs_file", *options.OF_DATA, "preprocessing", "labelling", *options.OF_ARCHITECTURE),
    "inputs_file": options.OF_DATA,
    "labels_file": ("labelling",),
    "labelling": ("label_classes",),
}
_CLEAN = "realizable, clean labels"


def bound(
    context: typer.Context,
    data: options.DataOptions,
    labels: options.OneLabelling,
    architecture: options.ArchitectureOptions,
    kernel_file: Annotated[Path | None, typer.Option(help=f"{options.MATRIX}; inputs in random order")] = None,
    inputs_file: options.InputsFile = None,
    label_classes: options.LabelClasses = None,
    m: Annotated[
        str | None, typer.Option("-m", "--m", help="numbers of training examples, such as 100,200,500; default: n")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="method: smc, ghk, minimax-tilting, bernstein-yue, sampling or closed-form, which give a bound"
        ),
    ] = "smc",
    particles: options.Particles = None,
    replicates: options.Replicates = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    delta: Annotated[float, typer.Option(help="δ: probability with which a bound may fail")] = 0.05,
    gamma: Annotated[float, typer.Option(help="γ: probability added to δ for the bound on one drawn function")] = 0.05,
    plot: Annotated[
        Path | None, typer.Option(help="figure of the bounds and measured errors (.png, .svg, .pdf)")
    ] = None,
    service: remote.ServiceOptions = remote.IN_PROCESS,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Bound the error of functions drawn from the prior given the training labels (not of a network trained by SGD)."""
    fields = {"particles": particles, "replicates": replicates, "noise_variance": noise_variance, "jitter": jitter}
    with naming({"classes": "--label-classes"}):
        estimator = estimator_of(
            method, classes=label_classes, **{name: value for name, value in fields.items() if value is not None}
        )
    network = architecture.specification()
    options.refuse_ignored(context, _IGNORED)
    corruption = None if labels.corrupt is None else parse_corruption(labels.corrupt, labels.corrupt_seed)
    sizes = None if m is None else _sizes(m)
    if plot is not None:
        output.require_plots("--plot", plot)
    files = {"kernel_file": kernel_file, "inputs_file": inputs_file}
    given = Given.of(data, network, labels=labels, **files, corrupt=False, takes_classes=True)
    if sizes is not None and given.fields:  # of a data set, as many inputs as needed
        given = given._replace(fields={"n": max(sizes), **given.fields})
    asked = _Asked(network, given, estimator, corruption, sizes, seed, delta, gamma, plot is not None)
    computed = _here(asked) if service.url is None else _there(service, asked)
    name, points = computed.name, computed.points
    if plot is not None:
        plot_bounds(plot, _title(computed, asked, points[-1]), {"": _curves(points)})
    if json or csv:
        output.print_rows(
            {
                "units": "nats",
                "labelling": name,
                **computed.source,
                "corruption": None if corruption is None else corruption.model_dump(mode="json"),
                "seed": seed,
                "versions": computed.versions,
                "points": [_document(point) for point in points],
            },
            "points",
            csv=csv,
        )
        return
    _print_curve(name, points, delta, gamma)
    if plot is not None:
        output.console.print(f"Plot: {plot}")


class _Asked(NamedTuple):
    network: Architecture
    given: Given
    estimator: Estimator
    corruption: Corruption | None
    sizes: list[int] | None
    seed: int
    delta: float
    gamma: float
    measured: bool  # True to measure the errors that the bounds are drawn with


class _Point(NamedTuple):
    """Results for the first m examples.

    Attributes:
        estimate: log P of their labels.
        bounds: bounds on the error.
        clean_error: error on uncorrupted labels; None if no labels are corrupted.
        measured: measured counterpart of the bounds, on uncorrupted labels; None if unknown.
    """

    estimate: Estimate
    bounds: dict[BoundName, PacBayesBound]
    clean_error: float | None
    measured: MeasuredError | None = None

    @property
    def m(self) -> int:
        return self.estimate.n


class _Computed(NamedTuple):
    name: str
    source: dict[str, Any]
    versions: dict[str, str]
    points: list[_Point]


def _here(asked: _Asked) -> _Computed:
    """Compute bounds in this process."""
    from nngp_prior.data import corrupted
    from nngp_prior.prior.learning_curve import learning_curve
    from nngp_prior.prior.pac_bayes import clean_error_corrupted

    corruption = asked.corruption
    with output.ProgressBars() as bars:
        task = task_of(asked.given, asked.network, asked.estimator, bars)
        estimator, classes = task.estimator, classes_of(task.estimator)
        _require_one(len(task.labellings))
        ((name, clean),) = task.labellings
        sizes = asked.sizes or [len(task.K)]
        _require_sizes(sizes, len(task.K))
        clean = check_labels_for(estimator, clean, len(task.K), field="labels").astype(np.int64)
        labels = clean if corruption is None else corrupted(clean, corruption, classes)
        name = _named(name, corruption)
        curve = learning_curve(
            task.K, labels, sizes, delta=asked.delta, gamma=asked.gamma, method=estimator.kind, seed=asked.seed,
            progress=bars.bar(name, rows=True), **estimator.model_dump(exclude={"kind"}, exclude_unset=True),
        )  # fmt: skip
        measured = {}
        if asked.measured:
            measured = measured_errors(asked.given, asked.network, estimator, clean, labels, sizes, asked.seed, bars)
    points = []
    for m, estimate, bounds in curve:
        value = bounds["realizable"].value
        cleaned = None
        if corruption is not None and not more_than_two(estimator):
            cleaned = clean_error_corrupted(value, corruption, labels[:m], clean[:m])
        points.append(_Point(estimate, bounds, cleaned, measured.get(m)))
    return _Computed(name, {**task.source, "estimator": estimator.model_dump(mode="json")}, versions(), points)


def _there(service: remote.ServiceOptions, asked: _Asked) -> _Computed:
    """Compute bounds on a service."""
    from nngp_prior.client import Client

    with Client(service.url) as client:
        wanted = remote.asked(client, asked.given, asked.estimator)
        _require_one(len(wanted.names))
        estimator = for_classes(asked.estimator, wanted.labellings, wanted.known_classes)
        labellings: list[Any] = wanted.labellings
        if asked.corruption is not None:
            (one,) = labellings
            if isinstance(one, np.ndarray):
                checked = check_labels_for(estimator, one, len(one), field="labels").astype(np.int64)
                one = BlobLabellings(sha256=client.upload(checked[None]))
            labellings = [one.model_copy(update={"corruption": asked.corruption})]
        job = client.bound(
            asked.network, wanted.dataset, labellings, delta=asked.delta, gamma=asked.gamma, sizes=asked.sizes,
            method=estimator.kind, seed=asked.seed, **service.names,
            **estimator.model_dump(exclude={"kind"}, exclude_unset=True),
        )  # fmt: skip
        results = remote.waited_for(job)
    (result,) = results
    points = [
        _Point(point.estimate, point.bounds, point.clean_error) for point in result.points if point.estimate is not None
    ]
    if not points:
        output.fail(result.message)
    name = _named(wanted.names[0], asked.corruption)
    source = {
        each: results.about[each]
        for each in ("kernel", "architecture", "dataset", "order", "estimator")
        if each in results.about
    }
    return _Computed(name, source, results.about["versions"], points)


def _named(name: str, corruption: Corruption | None) -> str:
    return name if corruption is None else f"{name}, {describe_corruption(corruption)}"


def _require_one(labellings: int) -> None:
    if labellings > 1:
        raise InvalidInput("--labels-file", f"has {labellings} labellings", "Give one; a bound is of one training set.")


def _require_sizes(sizes: list[int], n: int) -> None:
    if max(sizes) > n:
        raise InvalidInput("--m", f"got {max(sizes):,} where there are {n:,} inputs", "Use fewer.")


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = [0]
    if sizes[0] < 1:
        raise InvalidInput("--m", f"got {text!r}", "Give positive integers with commas between, as 100,200,500.")
    return sizes


def _title(computed: _Computed, asked: _Asked, last: _Point) -> str:
    """Return data, labels, number of examples, network and δ as a title."""
    source = computed.source
    architecture = source.get("architecture")
    network = "a given kernel" if architecture is None else titles.network(architecture)
    labels = computed.name
    if "dataset" not in source:  # named after a file
        labels = "own labels" if asked.corruption is None else f"own labels, {describe_corruption(asked.corruption)}"
    bound = last.bounds["realizable"]
    # Values that are not bounds have no confidence.
    certainty = f"δ = {bound.delta + bound.delta_estimator:g}" if bound.is_bound else "not bounds"
    data = f"{titles.data(source.get('dataset'))}, {labels}, m ≤ {last.m:,}"
    return f"Error of the posterior: {data}\n{network}; {certainty}"


def _curves(points: list[_Point]) -> dict[str, Curve]:
    sizes, dashed = [p.m for p in points], not points[0].bounds["realizable"].is_bound
    curves = {
        titles.BOUNDS[name]: Curve(sizes, [p.bounds[name].value for p in points], dashed) for name in points[0].bounds
    }
    if cleaned := [p.clean_error for p in points if p.clean_error is not None]:
        curves[_CLEAN] = Curve(sizes, cleaned, dashed)
    if measured := {p.m: p.measured for p in points if p.measured is not None}:
        test = next(iter(measured.values())).test
        name = f"measured on {number_of(test, 'test input')}{', clean labels' if cleaned else ''} (± 2 s.e.)"
        values, errors = ([error[i] for error in measured.values()] for i in (0, 1))
        curves[name] = Curve(list(measured), values, errors=[2 * error for error in errors])
    return curves


def _document(point: _Point) -> dict[str, Any]:
    row = bound_row(0, point.estimate, point.bounds, point.clean_error)
    del row["labelling"]
    return row if point.measured is None else {**row, "measured_error": point.measured._asdict()}


def print_bounds(result: BoundResult, about: dict[str, Any]) -> None:
    """Print bounds computed by a service.

    Args:
        result: bounds of one labelling.
        about: part of the results document above the rows.
    """
    points, name = _points(result), f"labelling {result.labelling}"
    if points:
        _print_curve(name, points, about["delta"], about["gamma"])
    else:
        output.note(f"{name}: {result.message}")


def _points(result: BoundResult) -> list[_Point]:
    return [
        _Point(point.estimate, point.bounds, point.clean_error) for point in result.points if point.estimate is not None
    ]


def _print_curve(name: str, points: list[_Point], delta: float, gamma: float) -> None:
    _print_table(name, points)
    _print_notes(points, delta, gamma)


def _print_table(name: str, points: list[_Point]) -> None:
    is_bound, corrupted = points[0].bounds["realizable"].is_bound, points[0].clean_error is not None
    headings = ["log P ± s.e.\n(nats)", "log P ≥\n(nats)" if is_bound else "log P used\n(nats)"]
    headings += [
        "\nrealizable",
        "\nMaurer",
        "Langford-\nSeeger",
        "Valle-Pérez\net al. 2018",
        "\nMcAllester",
        "Valle-Pérez,\nLouis†",
    ]
    headings += ["realizable,\nclean labels"] if corrupted else []
    measured = any(point.measured is not None for point in points)
    headings += ["measured‡\n± s.e."] if measured else []
    table = output.table(*headings, "\ns", title=name, rows="m")
    for point in points:
        table.add_row(
            f"{point.m:,}",
            output.nats(point.estimate.value, point.estimate.stderr),
            output.nats(point.bounds["realizable"].log_p, point.estimate.stderr, False),
            *(f"{found.value:.4f}" for found in point.bounds.values()),
            *([] if point.clean_error is None else [f"{point.clean_error:.4f}"]),
            *([_error(point.measured)] if measured else []),
            f"{point.estimate.seconds:.1f}",
        )
    output.print_table(table)


def _error(measured: MeasuredError | None) -> str:
    return "–" if measured is None else f"{measured.value:.4f} ± {measured.stderr:.4f}"


def _print_notes(points: list[_Point], delta: float, gamma: float) -> None:
    first = points[0].bounds["realizable"]
    if first.is_bound:
        output.console.print(
            f"Mean error of functions drawn from the prior given the labels; each number holds with probability "
            f"{1 - delta:g}.\n† Error of one such function; with probability {1 - delta - gamma:g}.",
            highlight=False,
        )
    else:
        output.console.print("Not bounds: log P is an estimate without a rigorous lower bound.", highlight=False)
    for test in {point.measured.test for point in points if point.measured is not None}:
        output.console.print(
            f"‡ Mean error of such functions at {number_of(test, 'input')} that are not among the examples, labels not "
            "corrupted.",
            highlight=False,
        )
    if first.diagonal_shift:
        output.note(f"the prior is that of K + cI, c = {first.diagonal_shift:g}")
    for point in points:
        if point.estimate.status != "ok":
            output.note(f"m = {point.m:,}: {point.estimate.message}")
