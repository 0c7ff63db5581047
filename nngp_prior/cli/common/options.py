"""Options shared by commands: data sets, labels, architectures, estimators and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter
from typing_extensions import override

from nngp_prior.cli.common import output
from nngp_prior.cli.common.groups import names_of
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.specs.architecture import (
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    Residual,
)

LABELLINGS = "threshold:K, parity, one-vs-rest:K, two-classes:K,L, random[:seed], constant[:-1]"
MATRIX = "file of an n × n kernel matrix (.npy), instead of a data set"
CORRUPTIONS = "randomise:PROBABILITY or flip:COUNT"
_WIDTH = "number of units per layer, or of channels [512, 64]"

N = Annotated[int | None, typer.Option("-n", "--n", help="number of inputs; default: all")]
InputsFile = Annotated[
    Path | None,
    typer.Option(help="file of n × … inputs, with or without labels (.npy, .npz, .csv, IDX), instead of a data set"),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(help="file of n or L × n labels, -1 and +1 (.npy, .npz, .csv, IDX), instead of --labelling"),
]
LabelClasses = Annotated[
    int | None,
    typer.Option(
        help="number of classes C, if labels in a file are classes 0 … C-1; not needed with --labelling classes"
    ),
]
Particles = Annotated[
    int | None, typer.Option(help="smc, ghk: particles per replicate [smc: 32, or 128 with classes, or more; ghk: 128]")
]
Replicates = Annotated[int | None, typer.Option(help="smc, ghk: number of independent replicates [32]")]
NoiseVariance = Annotated[float, typer.Option(help="noise variance v: the prior is that of K + vI")]
Jitter = Annotated[float, typer.Option(help="jitter c: the prior is that of K + c·mean(diag K)·I")]
Dtype = Annotated[str, typer.Option(help="precision: float64 or float32")]
PlotFile = Annotated[Path, typer.Option(help="figure to write (.png, .svg, .pdf)")]
Checkpoint = Annotated[
    Path | None, typer.Option(help=".npz file for intermediate results; an interrupted run resumes from it")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=output.set_quiet, help="print no progress and no expected cost")
]
Csv = Annotated[bool, typer.Option("--csv", help="print CSV, one line per row of the table")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]

_ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)
_KINDS = {"fully-connected": FullyConnected, "convolutional": Convolutional, "residual": Residual}
_MYRTLE: dict[str, Literal[5, 7, 10]] = {"myrtle-5": 5, "myrtle-7": 7, "myrtle-10": 10}


@dataclass(frozen=True)
class DataOptions:
    """Data set of the inputs."""

    data: Annotated[str, typer.Option(help="data set: digits, mnist, fashion-mnist, cifar10 or boolean")] = "digits"
    n: N = None
    split: Annotated[str | None, typer.Option(help="part of the data set: train or test [train]")] = None
    data_seed: Annotated[int | None, typer.Option(help="random seed of the draw of the inputs [0]")] = None
    classes: Annotated[
        str | None,
        typer.Option(
            help="classes to draw from, such as 3,1 or cat,car; default: all, or those of --labelling two-classes"
        ),
    ] = None
    bits: Annotated[int | None, typer.Option(help="boolean: number of bits [7]")] = None
    encoding: Annotated[str | None, typer.Option(help="boolean: signs or bits [signs]")] = None
    leave_out_zero: Annotated[
        bool | None,
        typer.Option(
            "--leave-out-zero/--keep-zero", help="boolean: leave out the zero vector; default: if it has no label"
        ),
    ] = None
    preprocessing: Annotated[
        str | None,
        typer.Option(help="preprocessing: unit-interval (default for images), standardise, unit-norm or none"),
    ] = None

    def fields(self, architecture: Architecture) -> dict[str, Any]:
        """Return the given fields of the data set, except its classes, which may be names.

        Args:
            architecture: architecture that the data are for.

        Returns:
            fields with a value. The zero vector is left out if the network's output there is 0, which has no sign.
        """
        fields = _given(self)
        fields.pop("classes", None)
        if fields.get("encoding") == "bits" and architecture.bias_std == 0:
            fields.setdefault("leave_out_zero", True)
        return {{"data": "kind", "data_seed": "seed"}.get(name, name): value for name, value in fields.items()}


@dataclass(frozen=True)
class LabelOptions:
    """Labels of the inputs; commands take one of the subclasses, with one labelling or with several."""

    labelling: str | list[str] | None = None
    corrupt: Annotated[str | None, typer.Option(help=f"corruption of the labels: {CORRUPTIONS}")] = None
    corrupt_seed: Annotated[int, typer.Option(help="random seed of the corruption")] = 0
    labels_file: LabelsFile = None

    @property
    def labellings(self) -> list[str]:
        """Labellings as text."""
        return [self.labelling] if isinstance(self.labelling, str) else self.labelling or []


@dataclass(frozen=True)
class OneLabelling(LabelOptions):
    """Labels of the inputs, of one labelling unless a file has several."""

    labelling: Annotated[str | None, typer.Option(help=f"{LABELLINGS} [threshold:5; boolean: parity]")] = None


@dataclass(frozen=True)
class ArchitectureOptions:
    """Architecture: a kind, a preset or a JSON file, and options for its fields."""

    architecture: Annotated[
        str,
        typer.Option(
            help="fully-connected, convolutional, residual, myrtle-5, myrtle-7, myrtle-10, or a specification (.json)"
        ),
    ] = "fully-connected"
    depth: Annotated[
        int | None,
        typer.Option(help="fully-connected: number of hidden layers [2]; convolutional: number of convolutions [3]"),
    ] = None
    blocks: Annotated[int | None, typer.Option(help="residual: number of blocks in each of the three groups [1]")] = (
        None
    )
    readout: Annotated[str | None, typer.Option(help="readout of images: flatten or global-average-pool")] = None
    input_channels: Annotated[
        int | None, typer.Option(help="convolutional, residual: number of channels, the last axis of the inputs")
    ] = None
    activation: Annotated[str | None, typer.Option(help="relu, leaky-relu, erf, gelu, sin, cos or identity [relu]")] = (
        None
    )
    layer_norm: Annotated[bool | None, typer.Option("--layer-norm", help="normalise before each activation")] = None
    weight_std: Annotated[float | None, typer.Option(help="standard deviation of weights, times √fan-in [√2]")] = None
    bias_std: Annotated[float | None, typer.Option(help="standard deviation of biases [0.1]")] = None

    def specification(self) -> Architecture:
        """Return the architecture; ``depth`` of a convolutional network is its number of layers.

        Returns:
            the specification.

        Raises:
            InvalidInput: if the name is unknown, or an option does not apply to the architecture.
        """
        fields = _given(self)
        fields.pop("monte_carlo", None)
        name = fields.pop("architecture")
        preset = name.endswith(".json") or name in _MYRTLE
        beside = [field for field in fields if name.endswith(".json") or (preset and field in ("depth", "blocks"))]
        if preset and beside:
            flag = f"--{beside[0].replace('_', '-')}"
            raise InvalidInput(flag, f"means nothing beside --architecture {name}", "Leave one of them out.")
        if name.endswith(".json"):
            return _ARCHITECTURE.validate_python(read_json(Path(name)))
        if "width" in fields and name != "fully-connected":
            fields["channels"] = fields.pop("width")
        if name in _MYRTLE:
            return Convolutional.myrtle(_MYRTLE[name], **fields)
        if name not in _KINDS:
            known = ", ".join([*_KINDS, *_MYRTLE])
            raise InvalidInput("architecture", f"got {name!r}", f"Choose one of {known}, or give a .json file.")
        if name == "convolutional" and "depth" in fields:
            depth = fields.pop("depth")
            if depth < 1:
                raise InvalidInput("depth", f"got {depth}", "A convolutional network has at least one convolution.")
            fields["layers"] = (ConvolutionLayer(),) * depth
        return _KINDS[name](**fields)


@dataclass(frozen=True)
class FiniteArchitectureOptions(ArchitectureOptions):
    """Architecture of networks of finite width."""

    width: Annotated[int | None, typer.Option(help=_WIDTH)] = None


@dataclass(frozen=True)
class MonteCarloArchitectureOptions(ArchitectureOptions):
    """Architecture whose kernel is analytic, or estimated from networks of finite width."""

    monte_carlo: Annotated[
        int | None,
        typer.Option(
            help="number of random networks of finite width that estimate the kernel; default: analytic kernel"
        ),
    ] = None
    width: Annotated[int | None, typer.Option(help=f"with --monte-carlo: {_WIDTH}")] = None

    @override
    def specification(self) -> Architecture:
        if self.width is not None and self.monte_carlo is None:
            raise InvalidInput("--width", "means nothing without --monte-carlo", "Add that, or leave it out.")
        return super().specification()


OF_DATA = tuple(name for name in names_of(DataOptions) if name != "preprocessing")  # not of inputs from a file
OF_ARCHITECTURE = names_of(ArchitectureOptions)
OF_MONTE_CARLO = ("monte_carlo", "width")


def _given(group: DataOptions | ArchitectureOptions) -> dict[str, Any]:
    """Return the options that have a value."""
    values = {field.name: getattr(group, field.name) for field in dataclass_fields(group)}
    return {name: value for name, value in values.items() if value is not None}


def default_labelling(data: str) -> str:
    """Return the default labelling.

    Args:
        data: kind of the data set.

    Returns:
        its text on the command line.
    """
    return "parity" if data == "boolean" else "threshold:5"


def require_npz(path: Path | None) -> None:
    """Refuse a file name to which NumPy would add an extension.

    Args:
        path: value of ``--out``; None if not given.

    Raises:
        InvalidInput: if it has another extension.
    """
    if path is not None and path.suffix != ".npz":
        raise InvalidInput("--out", f"got {str(path)!r}", "Name a file that ends in .npz.")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: path of the file.

    Returns:
        its content.

    Raises:
        DataUnavailable: if it is missing, or invalid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise DataUnavailable(f"{path}: is no JSON that can be read ({error}).") from None


def refuse_ignored(context: typer.Context, ignored: Mapping[str, Sequence[str]]) -> None:
    """Refuse options that have no effect in combination with another one.

    Args:
        context: context of the command.
        ignored: names of options without effect, by the option that overrides them.

    Raises:
        InvalidInput: if both were given.
    """
    given = {name for name in context.params if _from_command_line(context, name)}
    for name, others in ignored.items():
        for other in others:
            if name in given and other in given:
                flag, beside = (f"--{option.replace('_', '-')}" for option in (other, name))
                raise InvalidInput(flag, f"means nothing beside {beside}", "Leave one of them out.")


def _from_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
