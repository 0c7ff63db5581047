"""``nngp-prior estimate``: log P of labellings, for a data set or a kernel matrix from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from nngp_prior.cli.common import options, output, remote, trained_networks
from nngp_prior.cli.common.command import naming
from nngp_prior.cli.common.parsing import Given
from nngp_prior.cli.common.tasks import estimates, for_classes, task_of, task_of_rows
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


@dataclass(frozen=True)
class LabelOptions(options.LabelOptions):
    """Labels of the inputs, of one labelling or several."""

    labelling: Annotated[list[str] | None, typer.Option(help=f"{options.LABELLINGS}, classes; may be repeated")] = None


def estimate(
    context: typer.Context,
    data: options.DataOptions,
    labels: LabelOptions,
    architecture: options.MonteCarloArchitectureOptions,
    kernel_file: Annotated[Path | None, typer.Option(help=options.MATRIX)] = None,
    inputs_file: options.InputsFile = None,
    label_classes: options.LabelClasses = None,
    trained: Annotated[
        Path | None,
        typer.Option(
            help="file of sharpness train; labellings are the functions of its networks at training and test inputs"
        ),
    ] = None,
    network: Annotated[
        list[int] | None, typer.Option(help="with --trained: number of a network; may be repeated [all]")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="method: smc, ep, ep2, laplace, ghk, minimax-tilting, bernstein-yue, closed-form or sampling"
        ),
    ] = "smc",
    particles: options.Particles = None,
    replicates: options.Replicates = None,
    target_stderr: Annotated[
        float | None, typer.Option(help="smc: target standard error, for which particles and replicates are added")
    ] = None,
    max_replicates: Annotated[
        int | None, typer.Option(help="smc: maximum number of replicates with --target-stderr [1024]")
    ] = None,
    max_sweeps: Annotated[
        int | None, typer.Option(help="ep, ep2, smc: maximum number of sweeps of EP [50, 50, 20]")
    ] = None,
    link: Annotated[str | None, typer.Option(help="laplace: link, probit or logistic [probit]")] = None,
    draws: Annotated[int | None, typer.Option(help="sampling, bernstein-yue: number of draws [100000, 10000]")] = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    delta: Annotated[float, typer.Option(help="probability with which the lower bound may fail")] = 0.01,
    service: remote.ServiceOptions = remote.IN_PROCESS,
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
    specification = architecture.specification()
    options.refuse_ignored(context, _IGNORED)
    if network and trained is None:
        raise InvalidInput("--network", "means nothing without --trained", "Add that, or leave it out.")
    functions = given = None
    if trained is not None:
        functions = trained_networks.functions_of_file(trained, network)
    else:
        given = Given.of(
            data, specification, labels=labels, kernel_file=kernel_file, inputs_file=inputs_file, takes_classes=True
        )
    asked = _Asked(specification, given, functions, estimator, architecture.monte_carlo, seed, delta)
    computed = _here(asked) if service.url is None else _there(service, asked)
    if json or csv:
        rows = [{"name": name, **row} for name, row in zip(computed.names, computed.rows, strict=True)]
        output.print_rows({**computed.about, "results": rows}, "results", csv=csv)
        return
    output.print_results(list(zip(computed.names, computed.results, strict=True)), delta)
    if "order" in computed.about:
        output.note(f"inputs in the order {computed.about['order']}")


class _Asked(NamedTuple):
    network: Architecture
    given: Given | None
    functions: trained_networks.Functions | None  # of trained networks, if there is no other source
    estimator: Estimator
    monte_carlo: int | None
    seed: int
    delta: float


class _Computed(NamedTuple):
    about: dict[str, Any]
    names: list[str]
    results: Sequence[Estimate | Result]
    rows: list[dict[str, Any]]


def _here(asked: _Asked) -> _Computed:
    """Compute estimates in this process."""
    with output.ProgressBars() as bars:
        if asked.functions is not None:
            task = task_of_rows(*asked.functions, asked.estimator, bars)
        else:
            assert asked.given is not None
            task = task_of(asked.given, asked.network, asked.estimator, bars, asked.monte_carlo)
        named = estimates(task, asked.seed, bars)
        names, results = [name for name, _ in named], [result for _, result in named]
    about = {
        "units": "nats",
        "n": len(task.K),
        **task.source,
        "estimator": task.estimator.model_dump(mode="json"),
        "seed": asked.seed,
        "versions": versions(),
    }
    return _Computed(about, names, results, [row_of(i, each, delta=asked.delta) for i, each in enumerate(results)])


def _there(service: remote.ServiceOptions, asked: _Asked) -> _Computed:
    """Compute estimates on a service."""
    from nngp_prior.client import Client

    network = asked.network
    remote.require_default("monte-carlo", asked.monte_carlo, None)
    with Client(service.url) as client:
        if asked.functions is not None:
            network, X, named, _ = asked.functions
            sent = remote.Asked(X, [labels for _, labels in named], [name for name, _ in named], ())
        else:
            assert asked.given is not None
            sent = remote.asked(client, asked.given, asked.estimator)
        estimator = for_classes(asked.estimator, sent.labellings, sent.known_classes)
        job = client.estimate(
            network, sent.dataset, sent.labellings, method=estimator.kind, seed=asked.seed, **service.names,
            **estimator.model_dump(exclude={"kind"}, exclude_unset=True),
        )  # fmt: skip
        results = remote.waited_for(job)
    if all(result.estimate is None for result in results):
        output.fail(results[0].message)
    rows = [
        result.row if result.estimate is None else row_of(result.labelling, result.estimate, delta=asked.delta)
        for result in results
    ]
    return _Computed(results.about, sent.names, results, rows)
