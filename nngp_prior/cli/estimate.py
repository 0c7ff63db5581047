"""``nngp-prior estimate``: log P of labellings of a data set, or of a kernel matrix from a file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from pydantic import TypeAdapter

from nngp_prior.cli import output
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.architecture import FullyConnected
from nngp_prior.schemas.data import Corruption, Dataset, Labelling

_INTERVAL_LEVEL = 0.95
_DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
_LABELLING: TypeAdapter[Labelling] = TypeAdapter(Labelling)
_CORRUPTION: TypeAdapter[Corruption] = TypeAdapter(Corruption)
# The one field that may follow a kind after a colon, as in threshold:5.
_SHORTHAND = {
    "threshold": "at",
    "one-vs-rest": "label",
    "random": "seed",
    "constant": "value",
    "randomise": "probability",
    "flip": "count",
}


class Problem(NamedTuple):
    """A kernel matrix, labellings of its inputs, and where they came from."""

    K: np.ndarray
    labellings: dict[str, np.ndarray]
    source: dict[str, Any]


def estimate(
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist")] = "digits",
    n: Annotated[int | None, typer.Option("-n", "--n", help="number of inputs; default: all")] = None,
    split: Annotated[str, typer.Option(help="train or test")] = "train",
    data_seed: Annotated[int, typer.Option(help="of the draw of the inputs")] = 0,
    preprocessing: Annotated[str, typer.Option(help="unit-interval, standardise, unit-norm or none")] = "unit-interval",
    labelling: Annotated[
        list[str] | None,
        typer.Option(help="threshold:K, parity, one-vs-rest:K, random[:seed], constant[:-1]; may be repeated"),
    ] = None,
    corrupt: Annotated[str | None, typer.Option(help="randomise:PROBABILITY or flip:COUNT")] = None,
    corrupt_seed: Annotated[int, typer.Option(help="of the corruption")] = 0,
    kernel_file: Annotated[Path | None, typer.Option(help="n × n matrix (.npy) instead of a data set")] = None,
    inputs_file: Annotated[Path | None, typer.Option(help="n × d inputs (.npy) instead of a data set")] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="n labels, or L × n (.npy), -1 and +1, instead of --labelling")
    ] = None,
    depth: Annotated[int, typer.Option(help="number of hidden layers")] = 2,
    activation: Annotated[str, typer.Option(help="relu or erf")] = "relu",
    weight_std: Annotated[float, typer.Option(help="standard deviation of weights, times √fan-in")] = 2**0.5,
    bias_std: Annotated[float, typer.Option(help="standard deviation of biases")] = 0.1,
    method: Annotated[str, typer.Option(help="smc, ep, closed-form or sampling")] = "smc",
    particles: Annotated[int | None, typer.Option(help="smc: particles of a replicate [128]")] = None,
    replicates: Annotated[int | None, typer.Option(help="smc: independent replicates [32]")] = None,
    target_stderr: Annotated[float | None, typer.Option(help="smc: add replicates until this is met")] = None,
    draws: Annotated[int | None, typer.Option(help="sampling: draws [100000]")] = None,
    noise_variance: Annotated[float, typer.Option(help="v: of K + vI instead")] = 0.0,
    jitter: Annotated[float, typer.Option(help="c: of K + c·mean(diag K)·I instead")] = 0.0,
    seed: Annotated[int, typer.Option(help="of all random numbers of the estimate")] = 0,
    delta: Annotated[float, typer.Option(help="the lower bound fails with at most this probability")] = 0.01,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Estimate log P of one or more labellings, in nats."""
    from nngp_prior.probability import compute, estimator_of, prepare

    if not 0 < delta < 1:
        raise InvalidInput("delta", f"got {delta}", "Choose a probability between 0 and 1.")
    chosen = {"particles": particles, "replicates": replicates, "target_stderr": target_stderr, "draws": draws}
    estimator = estimator_of(
        method,
        noise_variance=noise_variance,
        jitter=jitter,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    architecture = FullyConnected.model_validate(
        {"depth": depth, "activation": activation, "weight_std": weight_std, "bias_std": bias_std}
    )
    with output.ProgressBars() as bars:
        if kernel_file is not None:
            problem = _problem_from_kernel(kernel_file, labels_file)
        elif inputs_file is not None:
            problem = _problem_from_inputs(inputs_file, labels_file, architecture, bars)
        else:
            dataset = _DATASET.validate_python(
                {"kind": data, "n": n, "split": split, "seed": data_seed, "preprocessing": preprocessing}
            )
            corruption = None if corrupt is None else _parse(corrupt, seed=corrupt_seed)
            specifications = [
                _LABELLING.validate_python(_parse(text) | {"corruption": corruption})
                for text in labelling or ["threshold:5"]
            ]
            problem = problem_from_data(dataset, specifications, architecture, bars, labels_file)
        prepared = prepare(problem.K, estimator)
        results = {
            name: compute(prepared, labels, estimator, seed, bars.bar(name))
            for name, labels in problem.labellings.items()
        }
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
                    output.estimate_as_json(i, name, result, _INTERVAL_LEVEL, delta)
                    for i, (name, result) in enumerate(results.items())
                ],
            }
        )
        return
    table = output.table(
        "log P ± s.e.\n(nats)", "95 % interval\n(nats)", "lower bound*\n(nats)", "\nstatus", "\nseconds"
    )
    for name, result in results.items():
        interval = result.interval(_INTERVAL_LEVEL)
        table.add_row(
            name,
            output.nats(result.value, result.stderr),
            "–" if interval is None else f"{output.nats(interval[0])} … {output.nats(interval[1])}",
            output.nats(result.lower_bound(delta)),
            result.status,
            f"{result.seconds:.1f}",
        )
    output.print_table(table)
    output.console.print(f"* holds with probability {1 - delta:g}")
    for name, result in results.items():
        if result.message:
            output.note(f"{name}: {result.message}")


def problem_from_data(
    dataset: Dataset,
    labellings: list[Labelling],
    architecture: FullyConnected,
    bars: output.ProgressBars,
    labels_file: Path | None = None,
) -> Problem:
    """The kernel of an architecture on a data set, and labellings of it (those of a file instead, if there is one)."""
    from nngp_prior.data import label, load

    loaded = load(dataset)
    if labels_file is not None:
        named = _labels_from(labels_file)
    else:
        named = {describe(labelling): label(labelling, loaded.classes) for labelling in labellings}
    from nngp_prior.kernels import kernel

    K = kernel(architecture, loaded.X, progress=bars.bar(f"kernel of {len(loaded.X):,} {dataset.kind}"))
    source = {"architecture": architecture.model_dump(mode="json"), "dataset": dataset.model_dump(mode="json")}
    identity = hashlib.sha256((architecture.content_hash + dataset.content_hash).encode()).hexdigest()
    return Problem(K, named, {"kernel": identity, **source})


def describe(labelling: Labelling) -> str:
    """A short name of a labelling, as the command line takes it."""
    field = _SHORTHAND.get(labelling.kind)
    name = labelling.kind if field is None else f"{labelling.kind}:{getattr(labelling, field)}"
    if labelling.corruption is None:
        return name
    corruption = labelling.corruption
    return f"{name}, {corruption.kind}:{getattr(corruption, _SHORTHAND[corruption.kind])}"


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    packages = ("nngp-prior", "numpy", "scipy", "jax", "neural-tangents")
    return {package: importlib.metadata.version(package) for package in packages}


def _parse(text: str, **fields: Any) -> dict[str, Any]:
    kind, colon, value = text.partition(":")
    if colon:
        with contextlib.suppress(ValueError):  # the specification refuses what is no integer, and kinds without a value
            value = int(value)
        fields[_SHORTHAND.get(kind, "value")] = value
    return {"kind": kind, **fields}


def _problem_from_kernel(kernel_file: Path, labels_file: Path | None) -> Problem:
    K = _array_from(kernel_file)
    return Problem(K, _labels_from(labels_file), {"kernel": hashlib.sha256(K.tobytes()).hexdigest()})


def _problem_from_inputs(
    inputs_file: Path, labels_file: Path | None, architecture: FullyConnected, bars: output.ProgressBars
) -> Problem:
    from nngp_prior.kernels import kernel

    X, labellings = _array_from(inputs_file), _labels_from(labels_file)
    K = kernel(architecture, X, progress=bars.bar("kernel"))
    identity = hashlib.sha256(architecture.content_hash.encode() + X.tobytes()).hexdigest()
    return Problem(K, labellings, {"kernel": identity, "architecture": architecture.model_dump(mode="json")})


def _array_from(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataUnavailable(f"{path}: is no .npy file that can be read ({error}).") from None


def _labels_from(path: Path | None) -> dict[str, np.ndarray]:
    if path is None:
        raise InvalidInput("labels-file", "is missing", "Give the labels of your inputs as a .npy file of -1 and +1.")
    labels = np.atleast_2d(_array_from(path))
    return {f"{path.name}[{i}]" if len(labels) > 1 else path.name: row for i, row in enumerate(labels)}
