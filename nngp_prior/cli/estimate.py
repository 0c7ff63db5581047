"""``nngp-prior estimate``: log P of labellings of a data set, or of a kernel matrix from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nngp_prior.cli import options, output
from nngp_prior.cli.problems import (
    parse_labelling,
    parse_problem,
    problem_from_data,
    problem_from_inputs,
    problem_from_kernel,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.estimator import classes_of
from nngp_prior.schemas.result import LEVEL, row_of
from nngp_prior.versions import versions

_OF_LABELLING = ("labelling", "corrupt", "corrupt_seed")
# Options that mean nothing beside another one.
_IGNORED = {
    "kernel_file": ("inputs_file", *options.OF_DATA, "preprocessing", *_OF_LABELLING, *options.OF_ARCHITECTURE),
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
    labelling: Annotated[
        list[str] | None,
        typer.Option(
            help="threshold:K, parity, one-vs-rest:K, two-classes:K,L, classes, random[:seed], constant[:-1]; "
            "may be repeated"
        ),
    ] = None,
    corrupt: Annotated[str | None, typer.Option(help="randomise:PROBABILITY or flip:COUNT")] = None,
    corrupt_seed: Annotated[int, typer.Option(help="of the corruption")] = 0,
    kernel_file: Annotated[Path | None, typer.Option(help="n × n matrix (.npy) instead of a data set")] = None,
    inputs_file: options.InputsFile = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="n labels, or L × n (.npy, .npz), -1 and +1, instead of --labelling")
    ] = None,
    label_classes: Annotated[
        int | None, typer.Option(help="C: labels in the file are classes 0 … C-1; --labelling classes needs none")
    ] = None,
    architecture: options.ArchitectureName = "fully-connected",
    depth: options.Depth = None,
    blocks: options.Blocks = None,
    readout: options.Readout = None,
    activation: options.Activation = None,
    layer_norm: options.LayerNorm = None,
    weight_std: options.WeightStd = None,
    bias_std: options.BiasStd = None,
    method: Annotated[
        str, typer.Option(help="smc, ep, ep2, laplace, ghk, bernstein-yue, closed-form or sampling")
    ] = "smc",
    particles: Annotated[
        int | None, typer.Option(help="smc, ghk: particles of a replicate [32, of classes 128; 128]")
    ] = None,
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
    json: options.Json = False,
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
        classes=label_classes,
        noise_variance=noise_variance,
        jitter=jitter,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    network = options.architecture_of(context)
    options.refuse_ignored(context, _IGNORED)
    with output.ProgressBars() as bars:
        if kernel_file is not None:
            problem = problem_from_kernel(kernel_file, labels_file, estimator)
        elif inputs_file is not None:
            specifications = [parse_labelling(text, corrupt, corrupt_seed) for text in labelling or []]
            problem = problem_from_inputs(
                inputs_file, labels_file, specifications, preprocessing or "none", network, estimator, bars
            )
        else:
            fields = options.data_fields(context, network)
            default = "parity" if data == "boolean" else "threshold:5"
            dataset, specifications = parse_problem(fields, classes, labelling or [default], corrupt, corrupt_seed)
            problem = problem_from_data(dataset, specifications, network, estimator, bars, labels_file)
        estimator = problem.estimator
        prepared = prepare(problem.K, estimator)
        for _, labels in problem.labellings:
            check_labels(labels, prepared.n, classes_of(estimator))
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
                "versions": versions(),
                "results": [
                    {"name": name, **row_of(i, result, delta=delta)} for i, (name, result) in enumerate(results)
                ],
            }
        )
        return
    table = output.table("log P ± s.e.\n(nats)", "95 % interval\n(nats)", "lower bound*\n(nats)", "\nstatus", "\ns")
    for name, result in results:
        interval = result.interval(LEVEL)
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
