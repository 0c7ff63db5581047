"""``nngp-prior select``: the architecture of the largest log P of training labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nngp_prior.cli.common import options, output
from nngp_prior.cli.common.parsing import Given
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.titles import network
from nngp_prior.versions import versions

_IGNORED = {
    "inputs_file": options.OF_DATA,
    "labels_file": ("labelling", "corrupt", "corrupt_seed"),
    "depths": ("depth",),
    "activations": ("activation",),
}


def select(
    context: typer.Context,
    data: options.DataOptions,
    labels: options.OneLabelling,
    architecture: options.ArchitectureOptions,
    inputs_file: options.InputsFile = None,
    depths: Annotated[
        str | None, typer.Option(help="fully-connected: depths to choose from, such as 1,2,4; default: --depth")
    ] = None,
    activations: Annotated[
        str | None, typer.Option(help="activations to choose from, such as relu,erf; default: --activation")
    ] = None,
    train: Annotated[
        int | None, typer.Option("-m", "--train", help="number of leading inputs used for training; default: all")
    ] = None,
    noise_variance: options.NoiseVariance = 0.0,
    jitter: options.Jitter = 0.0,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    plot: Annotated[Path | None, typer.Option(help="figure of log P against the test error (.png, .svg, .pdf)")] = None,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Choose σ_w, σ_b, depth and activation by log P of the training labels; test inputs have no part in the choice."""
    options.refuse_ignored(context, _IGNORED)
    family = _family(architecture.specification(), depths, activations)
    if plot is not None:
        output.require_plots("--plot", plot)
    parameters = SMC(noise_variance=noise_variance, jitter=jitter)
    given = Given.of(data, family[0], labels=labels, inputs_file=inputs_file)
    found, labellings = _loaded(given, family[0], parameters)
    if len(labellings) != 1:
        raise InvalidInput("--labels-file", f"has {len(labellings)} labellings", "Give one.")
    (name, y), (X, source) = labellings[0], found
    m = len(X) if train is None else train
    if not 1 <= m <= len(X):
        raise InvalidInput("--train", f"got {m:,} where there are {len(X):,} inputs", "Give a number up to that.")
    from nngp_prior.prior.selection import select_architecture

    tested = {"X_test": X[m:], "y_test": y[m:]} if m < len(X) else {}
    with output.ProgressBars() as bars:
        selection = select_architecture(
            family, X[:m], y[:m], **tested, seed=seed, progress=bars.bar("selection"),
            noise_variance=noise_variance, jitter=jitter,
        )  # fmt: skip
    if plot is not None:
        from nngp_prior import style

        with style.figure(plot, f"{name}, m = {m:,}") as (_, ax):
            selection.plot(ax)
    if json or csv:
        rows = [
            {
                "architecture": each.architecture.model_dump(mode="json"),
                "optimised": each.optimised,
                "log_p": each.log_p.value,
                "stderr": each.log_p.stderr,
                "status": each.log_p.status,
                "test_error": None if each.test_error is None else each.test_error.value,
            }
            for each in selection
        ]
        about = {"units": "nats", "labelling": name, "train": m, **source, "seed": seed, "versions": versions()}
        output.print_rows({**about, "choices": selection.choices, "results": rows}, "results", csv=csv)
        return
    table = output.table("σ_w", "σ_b", "", "log P ± s.e.\n(nats)", "test\nerror", "status", rows="architecture")
    for each in selection:
        a, error = each.architecture, each.test_error
        table.add_row(
            network(a).removeprefix("fully-connected, "),
            f"{a.weight_std:.4g}",
            f"{a.bias_std:.4g}",
            "optimised" if each.optimised else "as given",
            f"{each.log_p.value:.2f} ± {each.log_p.stderr:.2g}",
            "" if error is None else f"{error.value:.4f}",
            each.log_p.status,
        )
    output.print_table(table)
    bound = selection.bounds()["realizable"]
    output.console.print(
        f"PAC-Bayes bound of the best, one of {selection.choices:,} choices: {bound.value:.4f} (with probability 0.95)"
    )
    if plot is not None:
        output.console.print(f"Plot: {plot}")


def _family(base: Architecture, depths: str | None, activations: str | None) -> list[Architecture]:
    """Return the architectures to choose from."""
    family = [base]
    if depths is not None:
        if base.kind != "fully-connected":
            problem = f"got {depths!r} for an architecture of kind {base.kind}"
            raise InvalidInput("--depths", problem, "Leave it out, or use --architecture fully-connected.")
        family = [_changed(each, depth=depth) for each in family for depth in _list("--depths", depths, int)]
    if activations is not None:
        family = [
            _changed(each, activation=name) for each in family for name in _list("--activations", activations, str)
        ]
    return family


def _list(option: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return list(dict.fromkeys(kind(part.strip()) for part in text.split(",")))
    except ValueError:
        raise InvalidInput(option, f"got {text!r}", "Give integers with commas between, as 1,2,4.") from None


def _changed(architecture: Architecture, **fields: Any) -> Architecture:
    return type(architecture).model_validate({**architecture.model_dump(), **fields})


def _loaded(given: Given, architecture: Architecture, parameters: SMC) -> tuple[Any, list[Any]]:
    """Return the inputs with their description, and the labellings with their names."""
    from nngp_prior.prior.request_context import inputs_of

    data, source, labellings = given.loaded()
    return (inputs_of(data, architecture), source), given.named_labels(data, labellings, parameters)
