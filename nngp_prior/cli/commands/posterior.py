"""``nngp-prior posterior``: predictions for the other inputs from labels of the first ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.parsing import Given, task_of
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


def posterior(
    context: typer.Context,
    train: Annotated[int, typer.Option("-m", "--train", help="the first so many inputs are training inputs")],
    data: options.DataName = "digits",
    n: options.N = None,
    split: options.Split = None,
    data_seed: options.DataSeed = None,
    classes: options.Classes = None,
    bits: options.Bits = None,
    encoding: options.Encoding = None,
    leave_out_zero: options.LeaveOutZero = None,
    preprocessing: options.PreprocessingName = None,
    labelling: Annotated[list[str] | None, typer.Option(help=f"{options.LABELLINGS}; may be repeated")] = None,
    corrupt: Annotated[str | None, typer.Option(help=f"{options.CORRUPTIONS}, of training and test labels")] = None,
    corrupt_seed: options.CorruptSeed = 0,
    kernel_file: Annotated[Path | None, typer.Option(help=f"{options.MATRIX}; training inputs first")] = None,
    inputs_file: options.InputsFile = None,
    labels_file: options.LabelsFile = None,
    architecture: options.ArchitectureName = "fully-connected",
    depth: options.Depth = None,
    blocks: options.Blocks = None,
    readout: options.Readout = None,
    input_channels: options.InputChannels = None,
    activation: options.Activation = None,
    layer_norm: options.LayerNorm = None,
    weight_std: options.WeightStd = None,
    bias_std: options.BiasStd = None,
    particles: Annotated[int | None, typer.Option(help="particles of a replicate [32]")] = None,
    replicates: Annotated[int | None, typer.Option(help="independent replicates [32]")] = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="of all random numbers")] = 0,
    url: remote.Url = None,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Predict the labels of test inputs by the prior given the training labels, and count errors."""
    given = {"particles": particles, "replicates": replicates, "noise_variance": noise_variance, "jitter": jitter}
    parameters = SMC(**{name: value for name, value in given.items() if value is not None})
    if train < 1:
        raise InvalidInput("--train", f"got {train}", "Give at least one training input.")
    network = options.architecture_of(context)
    options.refuse_ignored(context, _IGNORED)
    computed = _here(context, network, parameters) if url is None else _there(context, network, parameters)
    if json or csv:
        rows = [{"name": name, **result.row} for name, result in zip(computed.names, computed.results, strict=True)]
        output.print_rows({**computed.about, "results": rows}, "results", csv=csv)
        return
    print_posteriors(computed.names, computed.results, computed.about)


class _Computed(NamedTuple):
    about: dict[str, Any]
    names: list[str]
    results: list[PosteriorResult]


def _here(context: typer.Context, network: Architecture, parameters: SMC) -> _Computed:
    """Compute posteriors in this process."""
    from nngp_prior.prior.posterior import result_row

    given, names, results = SimpleNamespace(**context.params), [], []
    with output.ProgressBars() as bars:
        task = task_of(Given.of(context, network), network, parameters, bars)
        if task.estimator != parameters:
            raise InvalidInput("labelling", "got 'classes' where labels are -1 and +1", "Use one-vs-rest:K, say.")
        n = len(task.K)
        if given.train >= n:
            raise InvalidInput("--train", f"got {given.train:,} where there are {n:,} inputs", "Leave some to test.")
        for i, (name, labels) in enumerate(task.labellings):
            if len(labels) != n:
                raise InvalidInput(
                    "--labels-file", f"has {len(labels):,} labels for {n:,} inputs", "Give one per input."
                )
            row = result_row(i, task.K, labels, given.train, parameters, given.seed, bars.bar(name))
            names.append(name)
            results.append(PosteriorResult(row))
    about = {
        "units": "nats",
        "n": n,
        "train": given.train,
        **task.source,
        "estimator": parameters.model_dump(mode="json"),
        "seed": given.seed,
        "versions": versions(),
    }
    return _Computed(about, names, results)


def _there(context: typer.Context, network: Architecture, parameters: SMC) -> _Computed:
    """Compute posteriors on a service."""
    from nngp_prior.client import Client

    given = SimpleNamespace(**context.params)
    with Client(given.url) as client:
        asked = remote.asked(client, Given.of(context, network), parameters)
        options_of_smc = parameters.model_dump(exclude={"kind"}, exclude_unset=True)
        job = client.posterior(
            network, asked.dataset, asked.labellings, train=given.train, seed=given.seed, **options_of_smc
        )
        results = remote.waited_for(job)
    if all(result.estimate is None for result in results):
        output.fail(results[0].message)
    return _Computed(results.about, asked.names, list(results))


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
    output.console.print(
        "* votes that more particles may change: ½ is within the 95 % interval of the probability", soft_wrap=True
    )
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
