"""``nngp-prior estimate``: log P of labellings, for a data set or a kernel matrix from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import typer

from nngp_prior.cli.common import options, output, remote, trained_networks
from nngp_prior.cli.common.command import naming
from nngp_prior.cli.common.parsing import Given, estimates, for_classes, task_of, task_of_rows
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.base import Result, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import Estimator, estimator_of
from nngp_prior.versions import versions

_OF_LABELLING = ("labelling", "corrupt", "corrupt_seed")
# Options that have no effect in combination with the key.
_IGNORED = {
    "trained": (
        "kernel_file",
        "inputs_file",
        "labels_file",
        "label_classes",
        *options.OF_DATA,
        "preprocessing",
        *_OF_LABELLING,
        *options.OF_ARCHITECTURE,
        *options.OF_MONTE_CARLO,
    ),
    "kernel_file": (
        "inputs_file",
        *options.OF_DATA,
        "preprocessing",
        *_OF_LABELLING,
        *options.OF_ARCHITECTURE,
        *options.OF_MONTE_CARLO,
    ),
    "inputs_file": options.OF_DATA,
    "labels_file": _OF_LABELLING,
    "labelling": ("label_classes",),
}


def estimate(
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
    labelling: Annotated[list[str] | None, typer.Option(help=f"{options.LABELLINGS}, classes; may be repeated")] = None,
    corrupt: options.Corrupt = None,
    corrupt_seed: options.CorruptSeed = 0,
    kernel_file: Annotated[Path | None, typer.Option(help=options.MATRIX)] = None,
    inputs_file: options.InputsFile = None,
    labels_file: options.LabelsFile = None,
    label_classes: options.LabelClasses = None,
    trained: Annotated[
        Path | None, typer.Option(help="file of sharpness train: functions of its networks at training and test inputs")
    ] = None,
    network: Annotated[
        list[int] | None, typer.Option(help="with --trained: a network's number; may be repeated [all]")
    ] = None,
    architecture: options.ArchitectureName = "fully-connected",
    depth: options.Depth = None,
    blocks: options.Blocks = None,
    readout: options.Readout = None,
    input_channels: options.InputChannels = None,
    activation: options.Activation = None,
    layer_norm: options.LayerNorm = None,
    weight_std: options.WeightStd = None,
    bias_std: options.BiasStd = None,
    monte_carlo: options.MonteCarloNetworks = None,
    width: options.MonteCarloWidth = None,
    method: Annotated[
        str, typer.Option(help="smc, ep, ep2, laplace, ghk, bernstein-yue, closed-form or sampling")
    ] = "smc",
    particles: options.Particles = None,
    replicates: options.Replicates = None,
    target_stderr: Annotated[
        float | None, typer.Option(help="smc: add particles and replicates until this is met")
    ] = None,
    max_replicates: Annotated[int | None, typer.Option(help="smc: where adding ends [1024]")] = None,
    max_sweeps: Annotated[int | None, typer.Option(help="ep, ep2, smc: sweeps of EP [50, 50, 20]")] = None,
    link: Annotated[str | None, typer.Option(help="laplace: probit or logistic [probit]")] = None,
    draws: Annotated[int | None, typer.Option(help="sampling, bernstein-yue: draws [100000, 10000]")] = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="of all random numbers of the estimate")] = 0,
    delta: Annotated[float, typer.Option(help="the lower bound fails with at most this probability")] = 0.01,
    url: remote.Url = None,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Estimate log P of one or more labellings, in nats."""
    if not 0 < delta < 1:
        raise InvalidInput("delta", f"got {delta}", "Choose a probability between 0 and 1.")
    chosen = {
        "particles": particles,
        "replicates": replicates,
        "target_stderr": target_stderr,
        "max_replicates": max_replicates,
        "max_sweeps": max_sweeps,
        "link": link,
        "draws": draws,
    }
    with naming({"classes": "--label-classes"}):
        estimator = estimator_of(
            method,
            classes=label_classes,
            noise_variance=noise_variance,
            jitter=jitter,
            **{name: value for name, value in chosen.items() if value is not None},
        )
    architecture_ = options.architecture_of(context)
    options.refuse_ignored(context, _IGNORED)
    if network and trained is None:
        raise InvalidInput("--network", "means nothing without --trained", "Add that, or leave it out.")
    computed = (_here if url is None else _there)(context, architecture_, estimator)
    if json or csv:
        rows = [{"name": name, **row} for name, row in zip(computed.names, computed.rows, strict=True)]
        output.print_rows({**computed.about, "results": rows}, "results", csv=csv)
        return
    output.print_results(list(zip(computed.names, computed.results, strict=True)), delta)
    if "order" in computed.about:
        output.note(f"inputs in the order {computed.about['order']}")


class _Computed(NamedTuple):
    about: dict[str, Any]
    names: list[str]
    results: Sequence[Estimate | Result]
    rows: list[dict[str, Any]]


def _here(context: typer.Context, network: Architecture, estimator: Estimator) -> _Computed:
    """Compute estimates in this process."""
    given = SimpleNamespace(**context.params)
    with output.ProgressBars() as bars:
        if given.trained is not None:
            functions = trained_networks.functions_of_file(given.trained, given.network)
            task = task_of_rows(*functions, estimator, bars)
        else:
            task = task_of(Given.of(context, network), network, estimator, bars, given.monte_carlo)
        named = estimates(task, given.seed, bars)
        names, results = [name for name, _ in named], [result for _, result in named]
    about = {
        "units": "nats",
        "n": len(task.K),
        **task.source,
        "estimator": task.estimator.model_dump(mode="json"),
        "seed": given.seed,
        "versions": versions(),
    }
    return _Computed(about, names, results, [row_of(i, each, delta=given.delta) for i, each in enumerate(results)])


def _there(context: typer.Context, network: Architecture, estimator: Estimator) -> _Computed:
    """Compute estimates on a service."""
    from nngp_prior.client import Client

    given = SimpleNamespace(**context.params)
    remote.require_default("monte-carlo", given.monte_carlo, None)
    with Client(given.url) as client:
        if given.trained is not None:
            network, X, named, _ = trained_networks.functions_of_file(given.trained, given.network)
            asked = remote.Asked(X, [labels for _, labels in named], [name for name, _ in named], ())
        else:
            asked = remote.asked(client, Given.of(context, network), estimator)
        estimator = for_classes(estimator, asked.labellings, asked.known_classes)
        results = remote.estimated(client, network, (asked.dataset, asked.labellings), estimator, given.seed)
    if all(result.estimate is None for result in results):
        output.fail(results[0].message)
    rows = [
        result.row if result.estimate is None else row_of(result.labelling, result.estimate, delta=given.delta)
        for result in results
    ]
    return _Computed(results.about, asked.names, results, rows)
