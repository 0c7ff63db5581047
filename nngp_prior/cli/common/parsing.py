"""Data sets, labellings and inputs from a command's arguments."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from nngp_prior.cli.common import options
from nngp_prior.cli.common.command import naming
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.data import (
    Corruption,
    Dataset,
    ImageData,
    Labelling,
    LabellingRule,
    NamedDataset,
    TwoClasses,
)
from nngp_prior.schemas.specs.estimator import Estimator, classes_of

if TYPE_CHECKING:
    from nngp_prior.data import Data

_DATASET: TypeAdapter[Dataset] = TypeAdapter(NamedDataset)
_LABELLING: TypeAdapter[Labelling] = TypeAdapter(LabellingRule)
_CORRUPTION: TypeAdapter[Corruption] = TypeAdapter(Corruption)
# Fields that may follow a kind after a colon, as in threshold:5 and two-classes:3,1.
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


def parse_dataset(fields: dict[str, Any]) -> Dataset:
    """Return a data set from its fields, including ``kind``."""
    with naming({"kind": "--data", "seed": "--data-seed"}):
        return _DATASET.validate_python(fields)


def parse_inputs(
    fields: dict[str, Any], classes: str | None, labellings: list[str], corruption: str | None, corruption_seed: int
) -> tuple[Dataset, list[Labelling]]:
    """Return a data set and labellings of it; classes may be given by name if the data set names them.

    Args:
        fields: fields of the data set, including ``kind``.
        classes: classes to draw from, comma-separated; default: those of the labellings ``two-classes``.
        labellings: labellings as text.
        corruption: corruption of all labellings.
        corruption_seed: random seed of the corruption.

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
    """Parse a labelling from ``kind`` or ``kind:value``; ``corruption`` has the same form."""
    corrupted = None if corruption is None else parse_corruption(corruption, corruption_seed)
    with naming({"kind": "--labelling"}, "--labelling"):
        return _LABELLING.validate_python(_fields(text, class_names) | {"corruption": corrupted})


def parse_corruption(text: str, seed: int) -> Corruption:
    """Parse a corruption from ``randomise:PROBABILITY`` or ``flip:COUNT``."""
    with naming({"kind": "--corrupt", "seed": "--corrupt-seed"}, "--corrupt"):
        return _CORRUPTION.validate_python(_fields(text) | {"seed": seed})


def _fields(text: str, class_names: tuple[str, ...] = ()) -> dict[str, Any]:
    kind, colon, rest = text.partition(":")
    if not colon:
        return {"kind": kind}
    names = _SHORTHAND.get(kind, ("value",))
    values = zip(names, rest.split(",", len(names) - 1), strict=False)  # the specification reports missing values
    return {
        "kind": kind,
        **{name: _class_number(value, class_names if name in _CLASS_FIELDS else ()) for name, value in values},
    }


def _class_number(text: str, class_names: tuple[str, ...]) -> float | str:
    """Return a number, or a class by its name; the specification validates other text."""
    name = _ALIASES.get(text, text)
    if name in class_names:
        return class_names.index(name)
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    if class_names and not class_names[0].isdigit():
        raise InvalidInput("class", f"got {text!r}", f"Choose one of {', '.join(class_names)}.")
    return text


def describe(labelling: Labelling) -> str:
    """Return the short name of a labelling, as on the command line."""
    fields = _SHORTHAND.get(labelling.kind, ())
    values = ",".join(str(getattr(labelling, field)) for field in fields)
    name = f"{labelling.kind}:{values}" if fields else labelling.kind
    return name if labelling.corruption is None else f"{name}, {describe_corruption(labelling.corruption)}"


def describe_corruption(corruption: Corruption) -> str:
    """Return the short name of a corruption, as on the command line."""
    (amount,) = _SHORTHAND[corruption.kind]
    return f"{corruption.kind}:{getattr(corruption, amount)}"


class Given(NamedTuple):
    """Source of inputs and labels on a command line; options have the same meaning in all commands.

    Attributes:
        fields: fields of the data set.
        classes: classes to draw from, comma-separated.
        labellings: labellings as text; empty if labels come from a file.
        corruption: corruption of all labellings, and its seed.
        kernel_file: matrix instead of inputs.
        inputs_file: inputs instead of a data set.
        labels_file: labels instead of labellings.
        preprocessing: preprocessing of inputs from a file.
        takes_classes: True if labels may be classes.
    """

    fields: dict[str, Any]
    classes: str | None
    labellings: list[str]
    corruption: tuple[str | None, int]
    kernel_file: Path | None
    inputs_file: Path | None
    labels_file: Path | None
    preprocessing: str
    takes_classes: bool

    @classmethod
    def of(
        cls,
        data: options.DataOptions,
        architecture: Architecture,
        *,
        labels: options.LabelOptions | None = None,
        kernel_file: Path | None = None,
        inputs_file: Path | None = None,
        corrupt: bool = True,
        takes_classes: bool = False,
    ) -> Given:
        """Create from the options of a command.

        Args:
            data: data set.
            architecture: architecture that the inputs are for.
            labels: labels; default: none.
            kernel_file: matrix instead of inputs.
            inputs_file: inputs instead of a data set.
            corrupt: False to leave the corruption to the command.
            takes_classes: True if labels may be classes.

        Returns:
            source of inputs and labels.
        """
        labellings, corruption, labels_file = [], (None, 0), None
        if labels is not None:
            labels_file = labels.labels_file
            labellings = labels.labellings
            if not labellings and inputs_file is None:
                labellings = [options.default_labelling(data.data)]
            if corrupt:
                corruption = labels.corrupt, labels.corrupt_seed
        return cls(
            {} if inputs_file is not None or kernel_file is not None else data.fields(architecture),
            data.classes,
            labellings,
            corruption,
            kernel_file,
            inputs_file,
            labels_file,
            data.preprocessing or "none",
            takes_classes,
        )

    def specified(self) -> tuple[Dataset | None, list[Labelling]]:
        """Return the specifications of the data set, None for inputs from a file, and of the labellings.

        Returns:
            data set and labellings.
        """
        if self.inputs_file is None:
            return parse_inputs(self.fields, self.classes, self.labellings, *self.corruption)
        return None, [parse_labelling(text, *self.corruption) for text in self.labellings]

    def loaded(self) -> tuple[Data, dict[str, Any], list[Labelling]]:
        """Return the inputs, their JSON description, and the specified labellings.

        Returns:
            inputs, description and labellings.
        """
        from nngp_prior.data import load, load_file
        from nngp_prior.prior.request_context import about

        dataset, labellings = self.specified()
        if dataset is not None:
            return load(dataset), about(dataset), labellings
        assert self.inputs_file is not None
        return load_file(self.inputs_file, self.preprocessing), {"inputs": str(self.inputs_file)}, labellings

    def named_labels(
        self, data: Data, labellings: list[Labelling], estimator: Estimator
    ) -> list[tuple[str, np.ndarray]]:
        """Return labels and their names.

        Args:
            data: inputs.
            labellings: specified labellings.
            estimator: estimator; its ``classes`` determine if labels in a file are classes.

        Returns:
            name and labels of each labelling.

        Raises:
            InvalidLabels: if there are none, or the class labelled +1 is not determined.
        """
        from nngp_prior.data import label, own_labels, read_labels

        if self.labels_file is not None:
            return read_labels(self.labels_file)
        if labellings:
            return [(describe(each), label(each, data.classes, data.known_classes)) for each in labellings]
        assert self.inputs_file is not None
        name = self.inputs_file.name
        if classes_of(estimator) is not None and data.known_classes:
            return [(name, data.classes)]
        return [(name, own_labels(data.classes, data.known_classes, self.inputs_file, self.takes_classes))]
