"""``nngp-prior sample``: draw networks, or the Gaussian process, and count the functions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nngp_prior.cli import options, output
from nngp_prior.cli.problems import parse_problem
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.estimate import Estimate
from nngp_prior.schemas.result import LEVEL, row_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    import numpy as np

    from nngp_prior.prior.sampling import FunctionCounts, RankedFunction


def sample(
    context: typer.Context,
    networks: Annotated[int, typer.Option("-N", "--networks", help="number of draws")] = 100_000,
    source: Annotated[str, typer.Option(help="networks, or gp: the Gaussian process of infinite width")] = "networks",
    data: options.DataName = "boolean",
    n: options.N = None,
    split: options.Split = None,
    data_seed: options.DataSeed = None,
    classes: options.Classes = None,
    bits: options.Bits = None,
    encoding: options.Encoding = None,
    leave_out_zero: options.LeaveOutZero = None,
    preprocessing: options.PreprocessingName = None,
    architecture: options.ArchitectureName = "fully-connected",
    depth: options.Depth = None,
    blocks: options.Blocks = None,
    readout: options.Readout = None,
    activation: options.Activation = None,
    layer_norm: options.LayerNorm = None,
    weight_std: options.WeightStd = None,
    bias_std: options.BiasStd = None,
    width: Annotated[int | None, typer.Option(help="units of a layer, or channels [512, 64]")] = None,
    seed: Annotated[int, typer.Option(help="of all draws, and of the estimates")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="a .npz file for the counts; a run that was cut off goes on from it")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="counts of other draws at the same inputs, shown beside")] = None,
    top: Annotated[int, typer.Option(help="functions in the table")] = 10,
    estimate: Annotated[list[str] | None, typer.Option(help="and log P of each by smc, ep, …; may be repeated")] = None,
    plot: Annotated[Path | None, typer.Option(help="a PNG of frequency against rank and complexity")] = None,
    json: options.Json = False,
) -> None:
    """Draw networks at initialisation, label the inputs by the signs of their outputs, and count the functions."""
    from nngp_prior.data import load
    from nngp_prior.prior.sampling import FunctionCounts, sample_functions
    from nngp_prior.prior.workbench import about, inputs_of
    from nngp_prior.probability import estimator_of

    methods = list(dict.fromkeys(estimate or []))
    for method in methods:
        estimator_of(method)
    if top < 1:
        raise InvalidInput("--top", f"got {top}", "Ask for at least one function.")
    if out is not None and out.suffix != ".npz":
        raise InvalidInput("--out", f"got {str(out)!r}", "Name a file that ends in .npz.")
    if plot is not None:
        output.require_plots("--plot", plot)
    network = options.architecture_of(context)
    dataset, _ = parse_problem(options.data_fields(context, network), classes, [], None, 0)
    X = inputs_of(load(dataset), network)
    other = None if compare is None else FunctionCounts.load(compare)
    with output.ProgressBars() as bars:
        began = time.perf_counter()
        counts = sample_functions(
            network,
            X,
            networks,
            seed=seed,
            source=source,
            path=out,
            progress=bars.bar(f"{network.kind}, n = {len(X):,}"),
        )
        seconds = time.perf_counter() - began
        if other is not None and other.about["inputs"] != counts.about["inputs"]:
            raise InvalidInput("--compare", f"{compare} is of other inputs", "Name a file of draws at the same inputs.")
        functions = counts.top(top)
        estimates = _estimates(network, X, functions, methods, seed, bars)
    if plot is not None:
        _plot(plot, network, counts, other, functions, estimates)
    if json:
        output.print_json(
            {
                "units": "nats",
                **about(dataset),
                **{name: counts.about[name] for name in ("source", "architecture", "seed")},
                "n": counts.n,
                "draws": counts.draws,
                "undecided": counts.undecided,
                "functions": len(counts),
                "seconds": seconds,
                "versions": versions(),
                "top": [
                    _document(function, other, {method: estimates[method][i] for method in methods})
                    for i, function in enumerate(functions)
                ],
            }
        )
        return
    _print_table(counts, other, functions, estimates)
    if counts.undecided:
        output.note(
            f"{counts.undecided:,} draws have an output that is exactly 0 (at input {int(counts.zeros.argmax())} most "
            "often), hence no labels; they count as draws of no function"
        )
    for written in (out, plot):
        if written is not None:
            output.console.print(f"Written: {written}", highlight=False)


def _estimates(
    network: Architecture,
    X: np.ndarray,
    functions: list[RankedFunction],
    methods: list[str],
    seed: int,
    bars: output.ProgressBars,
) -> dict[str, list[Estimate]]:
    """log P of functions at infinite width, by each method."""
    if not methods:
        return {}
    import numpy as np

    from nngp_prior.kernels import Job, KernelCache
    from nngp_prior.probability import log_probabilities

    K = KernelCache().of(Job.of(network, X, None, "nngp", "float64"), bars.bar("kernel"), {})
    Y = np.array([function.labels for function in functions])
    if not functions:
        return {method: [] for method in methods}
    return {method: list(log_probabilities(K, Y, method=method, seed=seed)) for method in methods}


def _bits(labels: np.ndarray) -> str:
    return "".join("1" if label > 0 else "0" for label in labels)


def _document(function: RankedFunction, other: FunctionCounts | None, estimates: dict[str, Estimate]) -> dict[str, Any]:
    from nngp_prior.data.complexity import lempel_ziv

    def row(estimate: Estimate) -> dict[str, Any]:
        found = row_of(0, estimate)
        del found["labelling"]
        return found

    return {
        "rank": function.rank,
        "labels": _bits(function.labels),
        "draws": function.draws,
        "lempel_ziv": lempel_ziv(function.labels),
        "frequency": row(function.frequency),
        **({} if other is None else {"compared": row(other.frequency(function.labels))}),
        "estimates": {method: row(estimate) for method, estimate in estimates.items()},
    }


def _print_table(
    counts: FunctionCounts,
    other: FunctionCounts | None,
    functions: list[RankedFunction],
    estimates: dict[str, list[Estimate]],
) -> None:
    from nngp_prior.data.complexity import lempel_ziv

    headings = ["\nones", "Lempel-Ziv\n(bits)", "\ndraws", f"{counts.source}\n(nats)", "95 % interval\n(nats)"]
    headings += [] if other is None else [f"{other.source}, {other.draws:,}\n(nats)"]
    title = f"{counts.draws:,} draws, {len(counts):,} functions of {counts.n:,} inputs"
    table = output.table(*headings, *(f"{method}\n(nats)" for method in estimates), title=title, rows="rank")
    for i, (rank, labels, draws, frequency) in enumerate(functions):
        interval = frequency.interval(LEVEL)
        assert interval is not None
        beside = [] if other is None else [other.frequency(labels)]
        table.add_row(
            str(rank),
            str(int((labels > 0).sum())),
            f"{lempel_ziv(labels):.1f}",
            f"{draws:,}",
            output.nats(frequency.value, frequency.stderr),
            " … ".join(output.nats(end, frequency.stderr, False) for end in interval),
            *(
                output.nats(each.value, each.stderr)
                for each in (*beside, *(values[i] for values in estimates.values()))
            ),
        )
    output.print_table(table)


def _plot(
    path: Path,
    network: Architecture,
    counts: FunctionCounts,
    other: FunctionCounts | None,
    functions: list[RankedFunction],
    estimates: dict[str, list[Estimate]],
) -> None:
    from nngp_prior.cli.sample_plot import Estimated, plot_functions
    from nngp_prior.data.complexity import lempel_ziv

    complexities = [lempel_ziv(function.labels) for function in functions]
    sampled = {counts.source: counts}
    if other is not None:
        sampled[other.source if other.source != counts.source else f"{other.source} (compared)"] = other
    estimated = {
        method: Estimated([estimate.value for estimate in values], complexities) for method, values in estimates.items()
    }
    plot_functions(path, f"{network.kind} networks, functions of {counts.n:,} inputs", sampled, estimated)
