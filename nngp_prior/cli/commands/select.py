"""``nngp-prior select``: the architecture of the largest log P of training labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from nngp_prior.cli.common import options, output, remote
from nngp_prior.cli.common.parsing import Given
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.base import DELTA
from nngp_prior.schemas.results.selection import Selection
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
    service: remote.ServiceOptions = remote.IN_PROCESS,
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
    given = Given.of(data, family[0], labels=labels, inputs_file=inputs_file)
    asked = _Asked(family, given, SMC(noise_variance=noise_variance, jitter=jitter), train, seed)
    name, about, selection = _here(asked) if service.url is None else _there(service, asked)
    if plot is not None:
        from nngp_prior import style

        with style.figure(plot, f"{name}, m = {about['train']:,}") as (_, ax):
            selection.plot(ax)
    print_selection(selection, {"units": "nats", "labelling": name, **about}, csv=csv, json=json)
    if plot is not None and not (json or csv):
        output.console.print(f"Plot: {plot}")


class _Asked(NamedTuple):
    family: list[Architecture]
    given: Given
    parameters: SMC
    train: int | None
    seed: int


def _here(asked: _Asked) -> tuple[str, dict[str, Any], Selection]:
    """Choose in this process; return the labelling's name, the description of the data, and the candidates."""
    from nngp_prior.prior.request_context import inputs_of
    from nngp_prior.prior.selection import select_architecture

    data, source, labellings = asked.given.loaded()
    found = asked.given.named_labels(data, labellings, asked.parameters)
    _require_one(len(found))
    (name, y), X = found[0], inputs_of(data, asked.family[0])
    m = _train(asked.train, len(X)) or len(X)
    tested = {"X_test": X[m:], "y_test": y[m:]} if m < len(X) else {}
    with output.ProgressBars() as bars:
        selection = select_architecture(
            asked.family, X[:m], y[:m], **tested, seed=asked.seed, progress=bars.bar("selection"),
            **asked.parameters.model_dump(exclude={"kind"}, exclude_unset=True),
        )  # fmt: skip
    return name, {"train": m, **source, "seed": asked.seed, "versions": versions()}, selection


def _there(service: remote.ServiceOptions, asked: _Asked) -> tuple[str, dict[str, Any], Selection]:
    """Choose on a service; see :func:`_here`."""
    from nngp_prior.client import Client

    with Client(service.url) as client:
        sent = remote.asked(client, asked.given, asked.parameters)
        _require_one(len(sent.names))
        train = asked.train
        if train is not None:
            train = _train(train, client.describe(sent.dataset)["n"])
        job = client.select(
            asked.family, sent.dataset, sent.labellings, train=train, seed=asked.seed, **service.names,
            **asked.parameters.model_dump(exclude={"kind"}, exclude_unset=True),
        )  # fmt: skip
        selection = remote.waited_for(job)
    if not selection:
        output.fail(selection.problems[0])
    return sent.names[0], about_of(selection), selection


def about_of(selection: Selection) -> dict[str, Any]:
    """Return the description of data and request from the results of a service.

    Args:
        selection: results of a service.

    Returns:
        number of training inputs, data set, seed and versions.
    """
    about = selection.about
    source = {name: about[name] for name in ("dataset", "order") if name in about}
    return {"train": about["train"] or about["n"], **source, "seed": about["seed"], "versions": about["versions"]}


def print_selection(selection: Selection, about: dict[str, Any], *, csv: bool = False, json: bool = False) -> None:
    """Print candidates as a table, as JSON or as CSV, and a PAC-Bayes bound for the best.

    Args:
        selection: the candidates.
        about: part of the document above the candidates.
        csv: True for CSV.
        json: True for JSON.
    """
    for problem in selection.problems:
        output.note(problem)
    if json or csv:
        rows = [
            {
                "architecture": each.architecture.model_dump(mode="json"),
                "optimised": each.optimised,
                "log_p": each.log_p.value,
                "stderr": each.log_p.stderr,
                "lower_bound": each.log_p.lower_bound(DELTA),
                "status": each.log_p.status,
                "test_error": None if each.test_error is None else each.test_error.value,
            }
            for each in selection
        ]
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
            output.nats(each.log_p.value, each.log_p.stderr),
            "" if error is None else f"{error.value:.4f}",
            each.log_p.status,
        )
    output.print_table(table)
    if selection:
        bound = selection.bounds()["realizable"]
        output.console.print(
            f"PAC-Bayes bound of the best, one of {selection.choices:,} choices: {bound.value:.4f} "
            "(with probability 0.95)"
        )


def _require_one(labellings: int) -> None:
    if labellings != 1:
        raise InvalidInput("--labels-file", f"has {labellings} labellings", "Give one.")


def _train(train: int | None, n: int) -> int | None:
    """Return the number of training inputs; None if all of the n inputs are."""
    if train is not None and not 1 <= train <= n:
        raise InvalidInput("--train", f"got {train:,} where there are {n:,} inputs", "Give a number up to that.")
    return None if train == n else train


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
