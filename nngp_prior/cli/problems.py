"""The kernel matrix and the labellings that a command is about: of a data set, or from files."""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from nngp_prior.cli import output
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.architecture import Architecture, FullyConnected
from nngp_prior.schemas.data import Dataset, Labelling
from nngp_prior.schemas.estimator import Estimator

if TYPE_CHECKING:
    from nngp_prior.data.datasets import Data

_DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
_LABELLING: TypeAdapter[Labelling] = TypeAdapter(Labelling)
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
    """A kernel matrix, named labellings of its inputs, and where they came from."""

    K: np.ndarray
    labellings: list[tuple[str, np.ndarray]]
    source: dict[str, Any]


def parse_dataset(fields: dict[str, Any]) -> Dataset:
    """A data set from its fields, ``kind`` among them."""
    return _DATASET.validate_python(fields)


def parse_labelling(text: str, corruption: str | None, corruption_seed: int) -> Labelling:
    """A labelling from ``kind`` or ``kind:value``, corrupted if ``corruption`` says how, in the same manner."""
    corrupted = None if corruption is None else _fields(corruption) | {"seed": corruption_seed}
    return _LABELLING.validate_python(_fields(text) | {"corruption": corrupted})


def _fields(text: str) -> dict[str, Any]:
    kind, colon, value = text.partition(":")
    fields: dict[str, Any] = {"kind": kind}
    if colon:
        with contextlib.suppress(ValueError):  # the specification refuses what is no integer, and kinds without a value
            value = int(value)
        fields[_SHORTHAND.get(kind, "value")] = value
    return fields


def describe(labelling: Labelling) -> str:
    """A short name of a labelling, as the command line takes it."""
    field = _SHORTHAND.get(labelling.kind)
    name = labelling.kind if field is None else f"{labelling.kind}:{getattr(labelling, field)}"
    if labelling.corruption is None:
        return name
    corruption = labelling.corruption
    return f"{name}, {corruption.kind}:{getattr(corruption, _SHORTHAND[corruption.kind])}"


def problem_from_data(
    dataset: Dataset,
    labellings: list[Labelling],
    architecture: Architecture,
    estimator: Estimator,
    bars: output.ProgressBars,
    labels_file: Path | None = None,
) -> Problem:
    """The kernel of an architecture on a data set, and labellings of it.

    Args:
        dataset: its specification.
        labellings: their specifications.
        architecture: of the network.
        estimator: whose memory is asked for before the kernel is made.
        bars: draw the kernel's progress.
        labels_file: labels that take the place of ``labellings``.

    Returns:
        the problem.
    """
    from nngp_prior.data import label, load
    from nngp_prior.probability import require_memory

    loaded = load(dataset)
    require_memory(len(loaded.X), estimator, with_kernel=True)
    if labels_file is not None:
        named = _labels_from(labels_file)
    else:
        named = [(describe(labelling), label(labelling, loaded.classes)) for labelling in labellings]
    title = f"kernel of {len(loaded.X):,} {dataset.kind}"
    return _problem(architecture, inputs_of(loaded, architecture), named, dataset, bars.bar(title))


def inputs_of(data: Data, architecture: Architecture) -> np.ndarray:
    """The inputs of a data set: images where the architecture takes them."""
    if isinstance(architecture, FullyConnected):
        return data.X
    pixels = data.X.shape[1]
    side = math.isqrt(pixels)
    return data.X.reshape(-1, *getattr(data, "image_shape", (side, pixels // side)))


def _problem(
    architecture: Architecture,
    X: np.ndarray,
    labellings: list[tuple[str, np.ndarray]],
    dataset: Dataset | None,
    progress: ProgressCallback,
) -> Problem:
    from nngp_prior.kernels import Job, KernelCache

    job = Job.of(architecture, X, None, "nngp", "float64")
    source = {"dataset": dataset.model_dump(mode="json")} if dataset is not None else {}
    K = KernelCache().of(job, progress, source)
    return Problem(K, labellings, {"kernel": job.key, "architecture": architecture.model_dump(mode="json"), **source})


def problem_from_kernel(kernel_file: Path, labels_file: Path | None) -> Problem:
    """A kernel matrix and labels, both from ``.npy`` files."""
    K = array_from(kernel_file)
    return Problem(K, _labels_from(labels_file), {"kernel": hashlib.sha256(K.tobytes()).hexdigest()})


def problem_from_inputs(
    inputs_file: Path,
    labels_file: Path | None,
    architecture: Architecture,
    estimator: Estimator,
    bars: output.ProgressBars,
) -> Problem:
    """The kernel of an architecture on inputs from a ``.npy`` file, and labels from another."""
    from nngp_prior.kernels import check_inputs
    from nngp_prior.probability import require_memory

    X, labellings = check_inputs("X", array_from(inputs_file), architecture), _labels_from(labels_file)
    require_memory(len(X), estimator, with_kernel=True)
    return _problem(architecture, X, labellings, None, bars.bar("kernel"))


def array_from(path: Path) -> np.ndarray:
    """What a ``.npy`` file holds."""
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise DataUnavailable(f"{path}: is no .npy file that can be read ({error}).") from None


def _labels_from(path: Path | None) -> list[tuple[str, np.ndarray]]:
    if path is None:
        raise InvalidInput("labels-file", "is missing", "Give the labels of your inputs as a .npy file of -1 and +1.")
    labels = np.atleast_2d(array_from(path))
    return [(f"{path.name}[{i}]" if len(labels) > 1 else path.name, row) for i, row in enumerate(labels)]
