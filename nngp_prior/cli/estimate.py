"""``nngp-prior estimate``: log P of labellings of a data set, or of a kernel matrix from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nngp_prior.cli import output
from nngp_prior.cli.problems import (
    parse_labelling,
    parse_problem,
    problem_from_data,
    problem_from_inputs,
    problem_from_kernel,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import FullyConnected

_INTERVAL_LEVEL = 0.95
_OF_DATA_SET = ("data", "n", "split", "data_seed", "classes", "bits", "encoding", "leave_out_zero")
_OF_DATA = (*_OF_DATA_SET, "preprocessing", "labelling", "corrupt", "corrupt_seed")
_OF_ARCHITECTURE = ("depth", "activation", "weight_std", "bias_std")
# Options that mean nothing beside another one.
_IGNORED = {
    "kernel_file": ("inputs_file", *_OF_DATA, *_OF_ARCHITECTURE),
    "inputs_file": _OF_DATA_SET,
    "labels_file": ("labelling", "corrupt", "corrupt_seed"),
}


def estimate(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="digits, mnist, fashion-mnist, cifar10 or boolean")] = "digits",
    n: Annotated[int | None, typer.Option("-n", "--n", help="number of inputs; default: all")] = None,
    split: Annotated[str | None, typer.Option(help="train or test [train]")] = None,
    data_seed: Annotated[int | None, typer.Option(help="of the draw of the inputs [0]")] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="draw from these alone: 3,1 or cat,car; default: all, or those of --labelling two-classes"),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="boolean: number of bits [7]")] = None,
    encoding: Annotated[str | None, typer.Option(help="boolean: signs or bits [signs]")] = None,
    leave_out_zero: Annotated[
        bool | None,
        typer.Option("--leave-out-zero/--keep-zero", help="boolean: default: left out where it has no label"),
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="unit-interval (images' default), standardise, unit-norm or none")
    ] = None,
    labelling: Annotated[
        list[str] | None,
        typer.Option(
            help="threshold:K, parity, one-vs-rest:K, two-classes:K,L, random[:seed], constant[:-1]; may be repeated"
        ),
    ] = None,
    corrupt: Annotated[str | None, typer.Option(help="randomise:PROBABILITY or flip:COUNT")] = None,
    corrupt_seed: Annotated[int, typer.Option(help="of the corruption")] = 0,
    kernel_file: Annotated[Path | None, typer.Option(help="n × n matrix (.npy) instead of a data set")] = None,
    inputs_file: Annotated[
        Path | None, typer.Option(help="n × … inputs (.npy; .npz: images, labels) instead of a data set")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="n labels, or L × n (.npy, .npz), -1 and +1, instead of --labelling")
    ] = None,
    depth: Annotated[int, typer.Option(help="number of hidden layers")] = 2,
    activation: Annotated[str, typer.Option(help="relu or erf")] = "relu",
    weight_std: Annotated[float, typer.Option(help="standard deviation of weights, times √fan-in")] = 2**0.5,
    bias_std: Annotated[float, typer.Option(help="standard deviation of biases")] = 0.1,
    method: Annotated[
        str, typer.Option(help="smc, ep, ep2, laplace, ghk, bernstein-yue, closed-form or sampling")
    ] = "smc",
    particles: Annotated[int | None, typer.Option(help="smc, ghk: particles of a replicate [32, 128]")] = None,
    replicates: Annotated[int | None, typer.Option(help="smc, ghk: independent replicates [32]")] = None,
    target_stderr: Annotated[
        float | None, typer.Option(help="smc: add particles and replicates until this is met")
    ] = None,
    max_replicates: Annotated[int | None, typer.Option(help="smc: where adding ends [1024]")] = None,
    max_sweeps: Annotated[int | None, typer.Option(help="ep, ep2, smc: sweeps of EP [50, 50, 20]")] = None,
    link: Annotated[str | None, typer.Option(help="laplace: probit or logistic [probit]")] = None,
    draws: Annotated[int | None, typer.Option(help="sampling, bernstein-yue: draws [100000, 10000]")] = None,
    noise_variance: Annotated[float, typer.Option(help="v: of K + vI instead")] = 0.0,
    jitter: Annotated[float, typer.Option(help="c: of K + c·mean(diag K)·I instead")] = 0.0,
    seed: Annotated[int, typer.Option(help="of all random numbers of the estimate")] = 0,
    delta: Annotated[float, typer.Option(help="the lower bound fails with at most this probability")] = 0.01,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Estimate log P of one or more labellings, in nats."""
    from nngp_prior.probability import check_labels, compute, estimator_of, prepare

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
    estimator = estimator_of(
        method,
        noise_variance=noise_variance,
        jitter=jitter,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    architecture = FullyConnected.model_validate(
        {"depth": depth, "activation": activation, "weight_std": weight_std, "bias_std": bias_std}
    )
    _refuse_ignored(context)
    with output.ProgressBars() as bars:
        if kernel_file is not None:
            problem = problem_from_kernel(kernel_file, labels_file)
        elif inputs_file is not None:
            specifications = [parse_labelling(text, corrupt, corrupt_seed) for text in labelling or []]
            problem = problem_from_inputs(
                inputs_file, labels_file, specifications, preprocessing or "none", architecture, estimator, bars
            )
        else:
            if leave_out_zero is None and encoding == "bits" and bias_std == 0:
                leave_out_zero = True  # the output there is 0, which has no sign
            fields = {
                "n": n,
                "split": split,
                "seed": data_seed,
                "preprocessing": preprocessing,
                "bits": bits,
                "encoding": encoding,
                "leave_out_zero": leave_out_zero,
            }
            dataset, specifications = parse_problem(
                {"kind": data, **{name: value for name, value in fields.items() if value is not None}},
                classes,
                labelling or ["parity" if data == "boolean" else "threshold:5"],
                corrupt,
                corrupt_seed,
            )
            problem = problem_from_data(dataset, specifications, architecture, estimator, bars, labels_file)
        prepared = prepare(problem.K, estimator)
        for _, labels in problem.labellings:
            check_labels(labels, prepared.n)
        results = [
            (name, compute(prepared, labels, estimator, seed, bars.bar(name))) for name, labels in problem.labellings
        ]
    if json:
        output.print_json(
            {
                "units": "nats",
                "n": len(problem.K),
                **problem.source,
                "estimator": estimator.model_dump(mode="json"),
                "seed": seed,
                "versions": output.versions(),
                "results": [
                    output.estimate_as_json(i, name, result, _INTERVAL_LEVEL, delta)
                    for i, (name, result) in enumerate(results)
                ],
            }
        )
        return
    table = output.table("log P ± s.e.\n(nats)", "95 % interval\n(nats)", "lower bound*\n(nats)", "\nstatus", "\ns")
    for name, result in results:
        interval = result.interval(_INTERVAL_LEVEL)
        table.add_row(
            name,
            output.nats(result.value, result.stderr),
            "–" if interval is None else " … ".join(output.nats(end, result.stderr, False) for end in interval),
            output.nats(result.lower_bound(delta)),
            result.status,
            f"{result.seconds:.1f}",
        )
    output.print_table(table)
    if any(result.stderr for _, result in results):
        output.console.print(f"* holds with probability {1 - delta:g}")
    if "order" in problem.source:
        output.note(f"inputs in the order {problem.source['order']}")
    for name, result in results:
        if result.message:
            output.note(f"{name}: {result.message}")


def _refuse_ignored(context: typer.Context) -> None:
    given = {name for name in context.params if _from_command_line(context, name)}
    for name, ignored in _IGNORED.items():
        for other in ignored:
            if name in given and other in given:
                flag, beside = (f"--{option.replace('_', '-')}" for option in (other, name))
                raise InvalidInput(flag, f"means nothing beside {beside}", "Leave one of them out.")


def _from_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
