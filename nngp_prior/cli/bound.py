"""``nngp-prior bound``: PAC-Bayes bounds on the generalization error, for one or more numbers of training examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from nngp_prior.cli import options, output
from nngp_prior.cli.bound_plot import Curve, plot_bounds
from nngp_prior.cli.problems import (
    describe_corruption,
    parse_corruption,
    parse_problem,
    problem_from_data,
    problem_from_kernel,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.data import Corruption, Randomise
from nngp_prior.schemas.result import row_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.prior.learning_curve import CurvePoint

_IGNORED = {
    "kernel_file": (*options.OF_DATA, "preprocessing", "labelling", *options.OF_ARCHITECTURE),
}
_CLEAN = "realizable, clean labels"


def bound(
    context: typer.Context,
    data: options.DataName = "digits",
    n: options.N = None,
    split: options.Split = None,
    data_seed: options.DataSeed = None,
    classes: options.Classes = None,
    bits: options.Bits = None,
    encoding: options.Encoding = None,
    leave_out_zero: options.LeaveOutZero = None,
    preprocessing: options.PreprocessingName = None,
    labelling: Annotated[
        str | None,
        typer.Option(
            help="threshold:K, parity, one-vs-rest:K, two-classes:K,L, random[:seed], constant[:-1] "
            "[threshold:5; boolean: parity]"
        ),
    ] = None,
    corrupt: Annotated[str | None, typer.Option(help="randomise:PROBABILITY or flip:COUNT")] = None,
    corrupt_seed: Annotated[int, typer.Option(help="of the corruption")] = 0,
    kernel_file: Annotated[
        Path | None, typer.Option(help="n × n matrix (.npy) instead of a data set; inputs in random order")
    ] = None,
    labels_file: Annotated[Path | None, typer.Option(help="n labels (.npy, .npz), -1 and +1")] = None,
    architecture: options.ArchitectureName = "fully-connected",
    depth: options.Depth = None,
    blocks: options.Blocks = None,
    readout: options.Readout = None,
    activation: options.Activation = None,
    layer_norm: options.LayerNorm = None,
    weight_std: options.WeightStd = None,
    bias_std: options.BiasStd = None,
    m: Annotated[
        str | None, typer.Option("-m", "--m", help="numbers of training examples: 100,200,500; default: n")
    ] = None,
    method: Annotated[
        str, typer.Option(help="smc, ghk, bernstein-yue, sampling, closed-form; ep, ep2, laplace give no bound")
    ] = "smc",
    particles: Annotated[int | None, typer.Option(help="smc, ghk: particles of a replicate [32, 128]")] = None,
    replicates: Annotated[int | None, typer.Option(help="smc, ghk: independent replicates [32]")] = None,
    noise_variance: Annotated[float, typer.Option(help="v: for the prior of K + vI instead")] = 0.0,
    jitter: Annotated[float, typer.Option(help="c: for the prior of K + c·mean(diag K)·I instead")] = 0.0,
    seed: Annotated[int, typer.Option(help="of all random numbers of the estimates")] = 0,
    delta: Annotated[float, typer.Option(help="δ: a bound fails with at most this probability")] = 0.05,
    gamma: Annotated[float, typer.Option(help="γ: and, of one function drawn, with this one beside it")] = 0.05,
    plot: Annotated[Path | None, typer.Option(help="a PNG of the bounds against m")] = None,
    json: options.Json = False,
) -> None:
    """Bound the error of functions drawn from the prior given the training labels (not of a network trained by SGD)."""
    from nngp_prior.data import corrupted
    from nngp_prior.prior.learning_curve import learning_curve
    from nngp_prior.probability import estimator_of

    given = {"particles": particles, "replicates": replicates, "noise_variance": noise_variance, "jitter": jitter}
    fields = {name: value for name, value in given.items() if value is not None}
    estimator = estimator_of(method, **fields)
    network = options.architecture_of(context)
    options.refuse_ignored(context, _IGNORED)
    corruption = None if corrupt is None else parse_corruption(corrupt, corrupt_seed)
    sizes = None if m is None else _sizes(m)
    if plot is not None:
        output.require_plots("--plot", plot)
    with output.ProgressBars() as bars:
        if kernel_file is not None:
            problem = problem_from_kernel(kernel_file, labels_file, estimator)
        else:
            wanted = options.data_fields(context, network)
            if sizes is not None:
                wanted.setdefault("n", max(sizes))
            default = "parity" if data == "boolean" else "threshold:5"
            dataset, specifications = parse_problem(wanted, classes, [labelling or default], None, 0)
            problem = problem_from_data(dataset, specifications, network, estimator, bars, labels_file)
        if len(problem.labellings) > 1:
            raise InvalidInput(
                "labels-file", f"has {len(problem.labellings)} labellings", "Give one; a bound is of one training set."
            )
        ((name, clean),) = problem.labellings
        sizes = sizes or [len(problem.K)]
        if max(sizes) > len(problem.K):
            raise InvalidInput("--m", f"got {max(sizes):,} where there are {len(problem.K):,} inputs", "Use fewer.")
        labels = clean if corruption is None else corrupted(np.asarray(clean), corruption)
        if corruption is not None:
            name = f"{name}, {describe_corruption(corruption)}"
        points = learning_curve(
            problem.K, labels, sizes, delta=delta, gamma=gamma, method=method, seed=seed, progress=bars.bar(name),
            **fields,
        )  # fmt: skip
    cleaned = None if corruption is None else [_clean_error(p, corruption, labels, clean) for p in points]
    if plot is not None:
        plot_bounds(plot, name, {"": _curves(points, cleaned)})
    if json:
        output.print_json(
            {
                "units": "nats",
                "labelling": name,
                **problem.source,
                "corruption": None if corruption is None else corruption.model_dump(mode="json"),
                "estimator": estimator.model_dump(mode="json"),
                "seed": seed,
                "versions": versions(),
                "points": [_document(i, p, None if cleaned is None else cleaned[i]) for i, p in enumerate(points)],
            }
        )
        return
    _print_table(name, points, cleaned)
    _print_notes(points, delta, gamma)
    if plot is not None:
        output.console.print(f"Plot: {plot}")


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = [0]
    if sizes[0] < 1:
        raise InvalidInput("--m", f"got {text!r}", "Give positive integers with commas between, as 100,200,500.")
    return sizes


def _clean_error(point: CurvePoint, corruption: Corruption, labels: np.ndarray, clean: np.ndarray) -> float:
    """What the realizable bound says of the error on labels that are not corrupted; 1 where that is nothing."""
    from nngp_prior.prior.pac_bayes import clean_error_flipped, clean_error_randomised

    value = point.bounds["realizable"].value
    if isinstance(corruption, Randomise):
        return clean_error_randomised(value, corruption.probability) if corruption.probability < 1 else 1.0
    rate = float(np.mean(labels[: point.m] != np.asarray(clean)[: point.m]))
    return clean_error_flipped(value, rate) if rate < 0.5 else 1.0


def _curves(points: list[CurvePoint], cleaned: list[float] | None) -> dict[str, Curve]:
    sizes, dashed = [p.m for p in points], not points[0].bounds["realizable"].is_bound
    curves = {name: Curve(sizes, [p.bounds[name].value for p in points], dashed) for name in points[0].bounds}
    return curves if cleaned is None else curves | {_CLEAN: Curve(sizes, cleaned, dashed)}


def _document(index: int, point: CurvePoint, cleaned: float | None) -> dict[str, Any]:
    row = row_of(index, point.estimate)
    del row["labelling"]
    bounds = [found.model_dump(mode="json") for found in point.bounds.values()]
    return {"m": point.m, **row, "bounds": bounds, **({} if cleaned is None else {"clean_error": cleaned})}


def _print_table(name: str, points: list[CurvePoint], cleaned: list[float] | None) -> None:
    is_bound = points[0].bounds["realizable"].is_bound
    headings = ["log P ± s.e.\n(nats)", "log P ≥\n(nats)" if is_bound else "log P used\n(nats)"]
    headings += ["\nrealizable", "\nMaurer", "Langford-\nSeeger", "\nMcAllester", "Valle-Pérez,\nLouis†"]
    headings += [] if cleaned is None else ["realizable,\nclean labels"]
    table = output.table(*headings, "\ns", title=name, rows="m")
    for i, point in enumerate(points):
        table.add_row(
            f"{point.m:,}",
            output.nats(point.estimate.value, point.estimate.stderr),
            output.nats(point.bounds["realizable"].log_p, point.estimate.stderr, False),
            *(f"{found.value:.4f}" for found in point.bounds.values()),
            *([] if cleaned is None else [f"{cleaned[i]:.4f}"]),
            f"{point.estimate.seconds:.1f}",
        )
    output.print_table(table)


def _print_notes(points: list[CurvePoint], delta: float, gamma: float) -> None:
    first = points[0].bounds["realizable"]
    if first.is_bound:
        output.console.print(
            f"Mean error of functions drawn from the prior given the labels; each number holds with probability "
            f"{1 - delta:g}.\n† Error of one such function; with probability {1 - delta - gamma:g}.",
            highlight=False,
        )
    else:
        output.console.print("Not bounds: log P is an estimate without a rigorous lower bound.", highlight=False)
    if first.added:
        output.note(f"the prior is that of K + cI, c = {first.added:g}")
    for point in points:
        if point.estimate.status != "ok":
            output.note(f"m = {point.m:,}: {point.estimate.message}")
