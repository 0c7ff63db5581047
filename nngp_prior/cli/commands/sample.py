"""``nngp-prior sample``: draws of networks, or of the Gaussian process, counted by function."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.parsing import Given
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas import titles
from nngp_prior.schemas.results.base import LEVEL, Result, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.results.sample import SampledFunction, Samples, bits_of
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import estimator_of
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.prior.sampling import FunctionCounts

_LEMPEL_ZIV = "lempel-ziv"
_MEASURES = {
    _LEMPEL_ZIV: "Lempel-Ziv\n(bits)",
    "entropy": "entropy\n(bits)",
    "critical-sample-ratio": "critical\nsamples",
}


@dataclass(frozen=True)
class BooleanOptions(options.DataOptions):
    """Data set of the inputs; by default, all inputs of Boolean functions."""

    data: Annotated[str, typer.Option(help="data set: digits, mnist, fashion-mnist, cifar10 or boolean")] = "boolean"


def sample(
    context: typer.Context,
    data: BooleanOptions,
    architecture: options.FiniteArchitectureOptions,
    networks: Annotated[int, typer.Option("-N", "--networks", help="number of draws")] = 100_000,
    source: Annotated[str, typer.Option(help="source of the draws: networks, or gp (infinite width)")] = "networks",
    inputs_file: options.InputsFile = None,
    seed: Annotated[int, typer.Option(help="random seed of the draws and the estimates")] = 0,
    out: options.Checkpoint = None,
    compare: Annotated[Path | None, typer.Option(help="file of other draws at the same inputs, for comparison")] = None,
    top: Annotated[int, typer.Option(help="number of functions in the table")] = 10,
    estimate: Annotated[
        list[str] | None, typer.Option(help="method for log P of each function: smc, ep, …; may be repeated")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="figure of frequency against rank and complexity (.png, .svg, .pdf)")
    ] = None,
    service: remote.ServiceOptions = remote.IN_PROCESS,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Draw networks at initialisation, label the inputs by the signs of their outputs, and count the functions."""
    methods = list(dict.fromkeys(estimate or []))
    for method in methods:
        estimator_of(method)
    if top < 1:
        raise InvalidInput("--top", f"got {top}", "Ask for at least one function.")
    options.require_npz(out)
    if plot is not None:
        output.require_plots("--plot", plot)
    network = architecture.specification()
    options.refuse_ignored(context, {"inputs_file": options.OF_DATA})
    given = Given.of(data, network, inputs_file=inputs_file)
    asked = _Asked(network, given, networks, source, seed, top, methods, out, compare, plot)
    drawn = _here(asked) if service.url is None else _there(service, asked)
    if json or csv:
        output.print_rows(
            {
                "units": "nats",
                **drawn.about,
                "source": source,
                "architecture": network.model_dump(mode="json"),
                "seed": seed,
                "n": len(drawn.zeros),
                "draws": drawn.draws,
                "undecided": drawn.undecided,
                "functions": drawn.functions,
                "seconds": drawn.seconds,
                "versions": drawn.versions,
                "top": [_document(drawn, i) for i in range(len(drawn.top))],
            },
            "top",
            csv=csv,
        )
        return
    _print_drawn(drawn, source)
    for written in (out, plot):
        if written is not None:
            output.console.print(f"Written: {written}", highlight=False)


def print_samples(found: Samples) -> None:
    """Print draws made by a service.

    Args:
        found: samples.
    """
    if found.status == "ok":
        _print_drawn(_drawn(found, {}), found.about["source"])
    else:
        output.note(found.message)


class _Asked(NamedTuple):
    network: Architecture
    inputs: Given
    networks: int
    source: str
    seed: int
    top: int
    methods: list[str]
    out: Path | None
    compare: Path | None
    plot: Path | None


class _Drawn(NamedTuple):
    """Contents of the output.

    Attributes:
        about: data set, and the order of its inputs.
        versions: versions of everything that numbers depend on.
        draws: number of draws, undecided ones included.
        functions: number of distinct functions.
        undecided: number of draws with an output of exactly 0.
        zeros: number of such draws per input.
        seconds: time of drawing, seconds.
        top: most frequent functions.
        compared: name of other draws, and the frequencies of these functions among them.
        estimates: log P of each function, by method.
    """

    about: dict[str, Any]
    versions: dict[str, str]
    draws: int
    functions: int
    undecided: int
    zeros: np.ndarray
    seconds: float
    top: list[SampledFunction]
    compared: tuple[str, list[Estimate]] | None
    estimates: dict[str, list[Estimate]]


def _here(asked: _Asked) -> _Drawn:
    """Draw in this process."""
    from nngp_prior.data.complexity import lempel_ziv
    from nngp_prior.prior.request_context import inputs_of
    from nngp_prior.prior.sampling import FunctionCounts, sample_functions

    network = asked.network
    loaded, about, _ = asked.inputs.loaded()
    X = inputs_of(loaded, network)
    other = None if asked.compare is None else FunctionCounts.load(asked.compare)
    with output.ProgressBars() as bars:
        began = time.perf_counter()
        counts = sample_functions(
            network,
            X,
            asked.networks,
            seed=asked.seed,
            source=asked.source,
            path=asked.out,
            progress=bars.bar(f"{network.kind}, n = {len(X):,}"),
        )
        seconds = time.perf_counter() - began
        if other is not None and other.about["inputs"] != counts.about["inputs"]:
            problem = f"{asked.compare} is of other inputs"
            raise InvalidInput("--compare", problem, "Name a file of draws at the same inputs.")
        top = [SampledFunction(*each, {_LEMPEL_ZIV: lempel_ziv(each.labels)}) for each in counts.top(asked.top)]
        estimates = _estimates(network, X, top, asked.methods, asked.seed, bars)
    if asked.plot is not None:
        _plot(asked.plot, _title(network, counts, about), counts, other, top, estimates)
    compared = None
    if other is not None:
        compared = f"{other.source}, {other.draws:,}", [other.frequency(each.labels) for each in top]
    return _Drawn(
        about, versions(), counts.draws, len(counts), counts.undecided, counts.zeros, seconds, top, compared,
        estimates,
    )  # fmt: skip


def _there(service: remote.ServiceOptions, asked: _Asked) -> _Drawn:
    """Draw on a service."""
    from nngp_prior.client import Client

    for name, value in (("out", asked.out), ("compare", asked.compare), ("plot", asked.plot)):
        remote.require_default(name, value, None)
    estimates: dict[str, list[Estimate]] = {}
    with Client(service.url) as client:
        dataset, _ = asked.inputs.specified()
        if dataset is None:
            dataset, _ = remote.uploaded(client, asked.inputs)
        job = client.sample(
            asked.network, dataset, asked.networks, seed=asked.seed, source=asked.source, top=asked.top,
            complexities=(_LEMPEL_ZIV,), **service.names,
        )  # fmt: skip
        found = remote.waited_for(job)
        if found.status != "ok":
            output.fail(found.message)
        for method in asked.methods if found else []:
            Y = np.array([function.labels for function in found])
            job = client.estimate(asked.network, dataset, Y, method=method, seed=asked.seed, **service.names)
            results = remote.waited_for(job)
            estimates[method] = [_estimate_of(result) for result in results]
    return _drawn(found, estimates)


def _drawn(found: Samples, estimates: dict[str, list[Estimate]]) -> _Drawn:
    about = {name: found.about[name] for name in ("dataset", "order") if name in found.about}
    return _Drawn(
        about, found.about["versions"], found.draws, found.functions, found.undecided, found.zeros, found.seconds,
        list(found), None, estimates,
    )  # fmt: skip


def _estimate_of(result: Result) -> Estimate:
    if result.estimate is None:
        output.fail(result.message)
    return result.estimate


def _estimates(
    network: Architecture,
    X: np.ndarray,
    functions: list[SampledFunction],
    methods: list[str],
    seed: int,
    bars: output.ProgressBars,
) -> dict[str, list[Estimate]]:
    """Compute log P of functions at infinite width, by each method."""
    if not methods or not functions:
        return {}
    from nngp_prior.kernels import KernelCache, KernelJob
    from nngp_prior.probability import log_probabilities

    K = KernelCache().of(KernelJob.of(network, X, None, "nngp", "float64"), bars.bar("kernel"), {})
    Y = np.array([function.labels for function in functions])
    return {method: list(log_probabilities(K, Y, method=method, seed=seed)) for method in methods}


def _document(drawn: _Drawn, i: int) -> dict[str, Any]:
    def row(estimate: Estimate) -> dict[str, Any]:
        found = row_of(0, estimate)
        del found["labelling"]
        return found

    function = drawn.top[i]
    return {
        "rank": function.rank,
        "labels": bits_of(function.labels),
        "draws": function.draws,
        "lempel_ziv": function.complexities[_LEMPEL_ZIV],
        "frequency": row(function.frequency),
        **({} if drawn.compared is None else {"compared": row(drawn.compared[1][i])}),
        "estimates": {method: row(estimates[i]) for method, estimates in drawn.estimates.items()},
    }


def _print_drawn(drawn: _Drawn, source: str) -> None:
    _print_table(drawn, source)
    if drawn.undecided:
        where, draws = int(drawn.zeros.argmax()), number_of(drawn.undecided, "draw")
        output.note(
            f"{draws} with an output that is exactly 0 (most often at input {where}), hence without labels; counted as "
            "of no function"
        )


def _print_table(drawn: _Drawn, source: str) -> None:
    measures = list(drawn.top[0].complexities) if drawn.top else []
    headings = ["\nones", *(_MEASURES[name] for name in measures)]
    headings += ["\ndraws", f"{source}\n(nats)", "95 % interval\n(nats)"]
    headings += [] if drawn.compared is None else [f"{drawn.compared[0]}\n(nats)"]
    functions = f"{number_of(drawn.functions, 'function')} of {number_of(len(drawn.zeros), 'input')}"
    title = f"{number_of(drawn.draws, 'draw')}, {functions}"
    table = output.table(*headings, *(f"{method}\n(nats)" for method in drawn.estimates), title=title, rows="rank")
    beside = [*([] if drawn.compared is None else [drawn.compared[1]]), *drawn.estimates.values()]
    for i, (rank, labels, draws, frequency, complexities) in enumerate(drawn.top):
        interval = frequency.interval(LEVEL)
        assert interval is not None
        table.add_row(
            str(rank),
            str(int((labels > 0).sum())),
            *(f"{complexities[name]:.{1 if name == _LEMPEL_ZIV else 3}f}" for name in measures),
            f"{draws:,}",
            output.nats(frequency.value, frequency.stderr),
            " … ".join(output.nats(end, frequency.stderr, False) for end in interval),
            *(output.nats(column[i].value, column[i].stderr) for column in beside),
        )
    output.print_table(table)


def _plot(
    path: Path,
    title: str,
    counts: FunctionCounts,
    other: FunctionCounts | None,
    functions: list[SampledFunction],
    estimates: dict[str, list[Estimate]],
) -> None:
    from nngp_prior.cli.plots.functions import Estimated, plot_functions

    complexities = [function.complexities[_LEMPEL_ZIV] for function in functions]
    sampled = {counts.source: counts}
    if other is not None:
        sampled[other.source if other.source != counts.source else f"{other.source} (compared)"] = other
    estimated = {
        method: Estimated([estimate.value for estimate in values], complexities) for method, values in estimates.items()
    }
    plot_functions(path, title, sampled, estimated)


def _title(network: Architecture, counts: FunctionCounts, about: dict[str, Any]) -> str:
    """Return inputs and network as a title; with the width of finite networks."""
    width = getattr(network, "width", None)
    wide = f", width {width:,}" if counts.source == "networks" and width is not None else ""
    return f"Functions of {counts.n:,} {titles.data(about.get('dataset'))}, {titles.network(network)}{wide}"
