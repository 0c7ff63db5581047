"""The kernel matrix and the labellings that a command is about: of a data set, or from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from nngp_prior.cli import output
from nngp_prior.cli.command import naming
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.cost import number_of
from nngp_prior.schemas.data import Classes, Corruption, Dataset, ImageData, Labelling, TwoClasses
from nngp_prior.schemas.estimate import Estimate
from nngp_prior.schemas.estimator import Estimator, estimator_of
from nngp_prior.schemas.kernel import MonteCarlo

if TYPE_CHECKING:
    from nngp_prior.kernels import MonteCarloKernel

_DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
_LABELLING: TypeAdapter[Labelling] = TypeAdapter(Labelling)
_CORRUPTION: TypeAdapter[Corruption] = TypeAdapter(Corruption)
# The fields that may follow a kind after a colon, as in threshold:5 and two-classes:3,1.
_SHORTHAND = {
    "threshold": ("at",),
    "one-vs-rest": ("label",),
    "two-classes": ("positive", "negative"),
    "random": ("seed",),
    "constant": ("value",),
    "randomise": ("probability",),
    "flip": ("count",),
}
_CLASS_FIELDS = {"at", "label", "positive", "negative"}
_ALIASES = {"car": "automobile", "plane": "airplane"}


class Problem(NamedTuple):
    """A kernel matrix, named labellings of its inputs, where they came from, and the estimator that takes them."""

    K: np.ndarray
    labellings: list[tuple[str, np.ndarray]]
    source: dict[str, Any]
    estimator: Estimator
    estimated: MonteCarloKernel | None = None  # what K is the mean of, where it is a mean over random networks


def estimates(problem: Problem, seed: int, bars: output.ProgressBars) -> list[tuple[str, Estimate]]:
    """log P of each labelling, with the error of the kernel where it has one.

    Args:
        problem: kernel and labellings.
        seed: of all random numbers but the networks'.
        bars: draw the progress.

    Returns:
        names and estimates.
    """
    from nngp_prior.prior.uncertain_kernel import BOOTSTRAPS, log_probability_under
    from nngp_prior.probability import compute_all, prepare
    from nngp_prior.schemas.labels import check_labels_for

    estimator = problem.estimator
    prepared = prepare(problem.K, estimator)  # looks at K, before the labels are looked at
    rows = [check_labels_for(estimator, labels, prepared.n) for _, labels in problem.labellings]
    if problem.estimated is not None:
        return [
            (name, log_probability_under(problem.estimated, labels, estimator, BOOTSTRAPS, seed, bars.bar(name)))
            for name, labels in problem.labellings
        ]
    names = [name for name, _ in problem.labellings]
    title = names[0] if len(names) == 1 else number_of(len(names), "labelling")
    found = dict(compute_all(prepared, rows, estimator, seed, bars.bar(title, rows=True)))
    return [(name, found[i]) for i, name in enumerate(names)]


def parse_dataset(fields: dict[str, Any]) -> Dataset:
    """A data set from its fields, ``kind`` among them."""
    with naming({"kind": "--data", "seed": "--data-seed"}):
        return _DATASET.validate_python(fields)


def parse_problem(
    fields: dict[str, Any], classes: str | None, labellings: list[str], corruption: str | None, corruption_seed: int
) -> tuple[Dataset, list[Labelling]]:
    """A data set and labellings of it; classes may be named where the data set has names for them.

    Args:
        fields: of the data set, ``kind`` among them.
        classes: those to draw from, with commas between; if absent, those of the labellings ``two-classes``.
        labellings: their texts.
        corruption: of all of them.
        corruption_seed: of the corruption.

    Returns:
        the specifications.
    """
    dataset = parse_dataset(fields)
    names = dataset.class_names if isinstance(dataset, ImageData) else ()
    specifications = [parse_labelling(text, corruption, corruption_seed, names) for text in labellings]
    if classes is not None:
        with naming({}, "--classes"):
            chosen = [_class_number(name, names) for name in classes.split(",")]
        dataset = parse_dataset(fields | {"classes": chosen})
    elif isinstance(dataset, ImageData):
        pairs = [(each.positive, each.negative) for each in specifications if isinstance(each, TwoClasses)]
        named = {label for pair in pairs for label in pair}
        dataset = parse_dataset(fields | {"classes": tuple(named) or None})
    return dataset, specifications


def parse_labelling(
    text: str, corruption: str | None, corruption_seed: int, class_names: tuple[str, ...] = ()
) -> Labelling:
    """A labelling from ``kind`` or ``kind:value``, corrupted if ``corruption`` says how, in the same manner."""
    corrupted = None if corruption is None else parse_corruption(corruption, corruption_seed)
    with naming({"kind": "--labelling"}, "--labelling"):
        return _LABELLING.validate_python(_fields(text, class_names) | {"corruption": corrupted})


def parse_corruption(text: str, seed: int) -> Corruption:
    """A corruption from ``randomise:PROBABILITY`` or ``flip:COUNT``."""
    with naming({"kind": "--corrupt", "seed": "--corrupt-seed"}, "--corrupt"):
        return _CORRUPTION.validate_python(_fields(text) | {"seed": seed})


def _fields(text: str, class_names: tuple[str, ...] = ()) -> dict[str, Any]:
    kind, colon, rest = text.partition(":")
    if not colon:
        return {"kind": kind}
    names = _SHORTHAND.get(kind, ("value",))
    values = zip(names, rest.split(",", len(names) - 1), strict=False)  # what is missing the specification asks for
    return {
        "kind": kind,
        **{name: _class_number(value, class_names if name in _CLASS_FIELDS else ()) for name, value in values},
    }


def _class_number(text: str, class_names: tuple[str, ...]) -> int | str:
    """A whole number, or a class by its name; the specification refuses anything else."""
    name = _ALIASES.get(text, text)
    if name in class_names:
        return class_names.index(name)
    try:
        return int(text)
    except ValueError:
        if class_names and not class_names[0].isdigit():
            raise InvalidInput("class", f"got {text!r}", f"Choose one of {', '.join(class_names)}.") from None
        return text


def describe(labelling: Labelling) -> str:
    """A short name of a labelling, as the command line takes it."""
    fields = _SHORTHAND.get(labelling.kind, ())
    values = ",".join(str(getattr(labelling, field)) for field in fields)
    name = f"{labelling.kind}:{values}" if fields else labelling.kind
    return name if labelling.corruption is None else f"{name}, {describe_corruption(labelling.corruption)}"


def describe_corruption(corruption: Corruption) -> str:
    """A short name of a corruption, as the command line takes it."""
    (amount,) = _SHORTHAND[corruption.kind]
    return f"{corruption.kind}:{getattr(corruption, amount)}"


def problem_from_data(
    dataset: Dataset,
    labellings: list[Labelling],
    architecture: Architecture,
    estimator: Estimator,
    bars: output.ProgressBars,
    labels_file: Path | None = None,
    monte_carlo: int | None = None,
) -> Problem:
    """The kernel of an architecture on a data set, and labellings of it.

    Args:
        dataset: its specification.
        labellings: their specifications.
        architecture: of the network.
        estimator: whose memory is asked for before the kernel is made; its classes are those of the data where the
            labellings are.
        bars: draw the kernel's progress.
        labels_file: labels that take the place of ``labellings``.
        monte_carlo: random networks that the kernel is a mean over; the analytic one when absent.

    Returns:
        the problem.
    """
    from nngp_prior.data import label, load
    from nngp_prior.prior.materials import about, inputs_of
    from nngp_prior.probability import require_memory

    loaded = load(dataset)
    if labels_file is None:
        estimator = for_classes(estimator, labellings, loaded.known_classes)
    require_memory(len(loaded.X), estimator, with_kernel=True)
    if labels_file is not None:
        named = labels_from(labels_file)
    else:
        named = [
            (describe(labelling), label(labelling, loaded.classes, loaded.known_classes)) for labelling in labellings
        ]
    title = f"kernel of {len(loaded.X):,} {dataset.kind}"
    X = inputs_of(loaded, architecture)
    return _problem(architecture, X, named, about(dataset), estimator, bars.bar(title), monte_carlo)


def for_classes(estimator: Estimator, labellings: Iterable[Any], known_classes: Sequence[int]) -> Estimator:
    """The estimator with as many classes as there are, if the labellings are the classes themselves.

    Args:
        estimator: without classes.
        labellings: specifications, or labels.
        known_classes: of the data.

    Returns:
        the estimator that takes them.

    Raises:
        InvalidInput: only some of the labellings are the classes.
    """
    themselves = {isinstance(labelling, Classes) for labelling in labellings}
    if len(themselves) == 2:
        raise InvalidInput("labelling", "got classes beside labellings by -1 and +1", "Estimate them apart.")
    if True not in themselves or len(known_classes) < 2:
        return estimator
    return estimator_of(estimator.kind, classes=len(known_classes), **estimator.model_dump(exclude={"kind", "classes"}))


def _problem(
    architecture: Architecture,
    X: np.ndarray,
    labellings: list[tuple[str, np.ndarray]],
    source: dict[str, Any],
    estimator: Estimator,
    progress: ProgressCallback,
    monte_carlo: int | None,
) -> Problem:
    from nngp_prior.kernels import Job, KernelCache, monte_carlo_kernel

    if monte_carlo is not None:
        specification = MonteCarlo(networks=monte_carlo)
        found = monte_carlo_kernel(architecture, X, specification, progress=progress)
        about = {"monte_carlo": specification.model_dump(mode="json")}
        about["architecture"] = architecture.model_dump(mode="json")
        return Problem(found.K, labellings, {**about, **source}, estimator, found)
    job = Job.of(architecture, X, None, "nngp", "float64")
    K = KernelCache().of(job, progress, source)
    source = {"kernel": job.key, "architecture": architecture.model_dump(mode="json"), **source}
    return Problem(K, labellings, source, estimator)


def problem_from_kernel(kernel_file: Path, labels_file: Path | None, estimator: Estimator) -> Problem:
    """A kernel matrix and labels, both from ``.npy`` files (labels also from ``.npz``, key ``labels``)."""
    from nngp_prior.data.npy import read_npy

    K = read_npy(kernel_file)
    return Problem(K, labels_from(labels_file), {"kernel": hashlib.sha256(K.tobytes()).hexdigest()}, estimator)


def problem_from_inputs(
    inputs_file: Path,
    labels_file: Path | None,
    labellings: list[Labelling],
    preprocessing: str,
    architecture: Architecture,
    estimator: Estimator,
    bars: output.ProgressBars,
    monte_carlo: int | None = None,
) -> Problem:
    """The kernel of an architecture on inputs from a file, and labellings of them.

    Args:
        inputs_file: ``.npy``, or ``.npz`` with the keys ``images`` and, perhaps, ``labels``.
        labels_file: labels, which come first.
        labellings: by the classes in the inputs' file, if it has some; without any, its labels are taken as they are
            where they are -1 and +1.
        preprocessing: of the inputs.
        architecture: of the network.
        estimator: whose memory is asked for before the kernel is made.
        bars: draw the kernel's progress.
        monte_carlo: random networks that the kernel is a mean over; the analytic one when absent.

    Returns:
        the problem.
    """
    from nngp_prior.data import label, load_file
    from nngp_prior.prior.materials import inputs_of
    from nngp_prior.probability import require_memory

    loaded = load_file(inputs_file, preprocessing)
    if labels_file is None and labellings:
        named = [(describe(each), label(each, loaded.classes, loaded.known_classes)) for each in labellings]
        estimator = for_classes(estimator, labellings, loaded.known_classes)
    elif labels_file is None and loaded.known_classes and set(loaded.known_classes) <= {-1, 1}:
        named = [(inputs_file.name, loaded.classes)]
    else:
        named = labels_from(labels_file)
    require_memory(len(loaded.X), estimator, with_kernel=True)
    X = inputs_of(loaded, architecture)
    return _problem(architecture, X, named, {}, estimator, bars.bar("kernel"), monte_carlo)


def labels_from(path: Path | None) -> list[tuple[str, np.ndarray]]:
    """Named labellings from a file, one a row.

    Args:
        path: ``.npy``, or ``.npz`` with the key ``labels``.

    Returns:
        name and labels of each.

    Raises:
        InvalidInput: no file was named.
        DataUnavailable: it has no labels.
    """
    from nngp_prior.data.npy import read_npy, read_npz

    if path is None:
        raise InvalidInput("labels-file", "is missing", "Give the labels of your inputs as a .npy file of -1 and +1.")
    arrays = read_npz(path, "labels") if path.suffix == ".npz" else {"labels": read_npy(path)}
    if "labels" not in arrays:
        raise DataUnavailable(f"{path}: has no array labels. Save it with the key labels.")
    labels = np.atleast_2d(arrays["labels"])
    return [(f"{path.name}[{i}]" if len(labels) > 1 else path.name, row) for i, row in enumerate(labels)]
