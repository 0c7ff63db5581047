"""``nngp-prior posterior``: predictions for the other inputs from labels of the first ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.command import naming
from nngp_prior.cli.common.parsing import Given
from nngp_prior.cli.common.tasks import for_classes, task_of
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.posterior import PosteriorResult
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

_IGNORED = {
    "kernel_file": (
        "inputs_file",
        *options.OF_DATA,
        "preprocessing",
        "labelling",
        "corrupt",
        "corrupt_seed",
        *options.OF_ARCHITECTURE,
    ),
    "inputs_file": options.OF_DATA,
    "labels_file": ("labelling", "corrupt", "corrupt_seed"),
}


@dataclass(frozen=True)
class LabelOptions(options.LabelOptions):
    """Labels of training and test inputs."""

    labelling: Annotated[list[str] | None, typer.Option(help=f"{options.LABELLINGS}, classes; may be repeated")] = None
    corrupt: Annotated[
        str | None, typer.Option(help=f"corruption of training and test labels: {options.CORRUPTIONS}")
    ] = None


def posterior(
    context: typer.Context,
    data: options.DataOptions,
    labels: LabelOptions,
    architecture: options.ArchitectureOptions,
    train: Annotated[int, typer.Option("-m", "--train", help="number of leading inputs used for training")],
    kernel_file: Annotated[Path | None, typer.Option(help=f"{options.MATRIX}; training inputs first")] = None,
    inputs_file: options.InputsFile = None,
    label_classes: options.LabelClasses = None,
    particles: Annotated[int | None, typer.Option(help="particles per replicate [32, or 128 with classes]")] = None,
    replicates: Annotated[int | None, typer.Option(help="number of independent replicates [32]")] = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    service: remote.ServiceOptions = remote.IN_PROCESS,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Predict the labels of test inputs by the prior given the training labels, and count errors."""
    fields = {"particles": particles, "replicates": replicates, "noise_variance": noise_variance, "jitter": jitter}
    with naming({"classes": "--label-classes"}):
        parameters = SMC(**{name: value for name, value in fields.items() if value is not None}, classes=label_classes)
    if train < 1:
        raise InvalidInput("--train", f"got {train}", "Give at least one training input.")
    network = architecture.specification()
    options.refuse_ignored(context, _IGNORED)
    given = Given.of(data, network, labels=labels, kernel_file=kernel_file, inputs_file=inputs_file, takes_classes=True)
    asked = _Asked(network, given, parameters, train, seed)
    computed = _here(asked) if service.url is None else _there(service, asked)
    if json or csv:
        rows = [{"name": name, **result.row} for name, result in zip(computed.names, computed.results, strict=True)]
        output.print_rows({**computed.about, "results": rows}, "results", csv=csv)
        return
    print_posteriors(computed.names, computed.results, computed.about)


class _Asked(NamedTuple):
    network: Architecture
    given: Given
    parameters: SMC
    train: int
    seed: int


class _Computed(NamedTuple):
    about: dict[str, Any]
    names: list[str]
    results: list[PosteriorResult]


def _here(asked: _Asked) -> _Computed:
    """Compute posteriors in this process."""
    from nngp_prior.prior.posterior import result_row

    names, results = [], []
    with output.ProgressBars() as bars:
        task = task_of(asked.given, asked.network, asked.parameters, bars)
        assert isinstance(task.estimator, SMC)
        parameters, n = task.estimator, len(task.K)
        if asked.train >= n:
            raise InvalidInput("--train", f"got {asked.train:,} where there are {n:,} inputs", "Leave some to test.")
        for i, (name, labels) in enumerate(task.labellings):
            if len(labels) != n:
                raise InvalidInput(
                    "--labels-file", f"has {len(labels):,} labels for {n:,} inputs", "Give one per input."
                )
            row = result_row(i, task.K, labels, asked.train, parameters, asked.seed, bars.bar(name))
            names.append(name)
            results.append(PosteriorResult(row))
    about = {
        "units": "nats",
        "n": n,
        "train": asked.train,
        **task.source,
        "estimator": parameters.model_dump(mode="json"),
        "seed": asked.seed,
        "versions": versions(),
    }
    return _Computed(about, names, results)


def _there(service: remote.ServiceOptions, asked: _Asked) -> _Computed:
    """Compute posteriors on a service."""
    from nngp_prior.client import Client

    with Client(service.url) as client:
        sent = remote.asked(client, asked.given, asked.parameters)
        parameters = for_classes(asked.parameters, sent.labellings, sent.known_classes)
        options_of_smc = parameters.model_dump(exclude={"kind"}, exclude_unset=True)
        job = client.posterior(
            asked.network, sent.dataset, sent.labellings, train=asked.train, seed=asked.seed,
            **service.names, **options_of_smc,
        )  # fmt: skip
        results = remote.waited_for(job)
    if all(result.estimate is None for result in results):
        output.fail(results[0].message)
    return _Computed(results.about, sent.names, list(results))


def print_posteriors(names: Sequence[str], results: Sequence[PosteriorResult], about: Mapping[str, Any]) -> None:
    """Print a table of posteriors, and notes on them.

    Args:
        names: names of the labellings.
        results: posteriors, one per labelling.
        about: part of the results document above the rows, with the numbers of inputs.
    """
    title = f"{number_of(about['train'], 'training input')}, {number_of(about['n'] - about['train'], 'test input')}"
    headings = ("log P(S) ± s.e.\n(nats)", "Gibbs error\n± s.e.", "vote error\n(range*)", "uncertain\nvotes*")
    made = output.table(*headings, "log P(test | S) ± s.e.\n(nats)", "\nstatus", "\ns", title=title)
    for name, result in zip(names, results, strict=True):
        made.add_row(name, output.nats(result.value, result.stderr), *_cells(result))
    output.print_table(made)
    output.console.print("* votes that more particles may change: the 95 % interval contains a tie", soft_wrap=True)
    for name, result in zip(names, results, strict=True):
        for message in filter(None, dict.fromkeys([result.message, result.given.message if result.given else ""])):
            output.note(f"{name}: {message}")


def _cells(result: PosteriorResult) -> list[str]:
    """Return a table row's cells for the test inputs."""
    gibbs, vote, given = result.gibbs_error, result.vote_error, result.given
    if gibbs is None or vote is None or given is None:
        return ["–"] * 4 + [result.status, "–"]
    return [
        f"{gibbs.value:.4f} ± {gibbs.stderr:.4f}",
        f"{vote.value:.4f} ({vote.low:.4f} … {vote.high:.4f})",
        f"{vote.uncertain:,}",
        output.nats(given.value, given.stderr),
        given.status if result.status == "ok" else result.status,
        f"{result.seconds + given.seconds:.1f}",
    ]
