"""Trained networks from a file, and the data that they are evaluated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from nngp_prior.cli.common import output
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas import titles
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.data.splits import Examples, Sets
    from nngp_prior.schemas.specs.architecture import Architecture
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
    from nngp_prior.sharpness.training.trained import Trained

File = Annotated[Path, typer.Argument(help="file written by sharpness train (.npz)", show_default=False)]
On = Annotated[
    str, typer.Option("--on", help="set of examples: training (without the attack set), all (with it), attack or test")
]
Epoch = Annotated[int | None, typer.Option(help="epoch after which the parameters were kept; default: the last")]
Network = Annotated[int | None, typer.Option(help="number of the network; default: the first in the file")]
Loss = Annotated[str | None, typer.Option(help="loss: cross-entropy or mse; default: the training loss")]


class TrainedFile(NamedTuple):
    """Contents of a file.

    Attributes:
        trained: the networks.
        data: X, (n, …), and y, ±1, or 0 … C-1.
        source: source of the data, for JSON.
        title: title of tables and plots.
    """

    trained: Trained
    data: tuple[np.ndarray, np.ndarray]
    source: dict[str, Any]
    title: str

    def risk(self, i: int, epoch: int | None, loss: str | None, dtype: str) -> EmpiricalRisk:
        """Return the empirical risk of one network on its data.

        Args:
            i: index in the file.
            epoch: epoch of the parameters; default: the last.
            loss: loss; default: the training loss.
            dtype: dtype of the computation.

        Returns:
            the risk.
        """
        from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

        loss = loss or self.trained.training.loss
        parameters = self.trained.network(i, epoch)
        return EmpiricalRisk.of(
            self.trained.architecture, parameters, *self.data, loss=loss, dtype=dtype, classes=self.trained.classes
        )


def require_one_output(trained: Trained, path: Path, what: str, remedy: str) -> None:
    """Raise an error for networks with C outputs.

    Args:
        trained: networks.
        path: path of their file.
        what: what needs one output.
        remedy: what to use instead.

    Raises:
        InvalidInput: if the networks have C outputs.
    """
    if trained.classes is not None:
        raise InvalidInput("FILE", f"{path} has networks with {trained.classes} outputs; {what} needs one", remedy)


class Functions(NamedTuple):
    """Functions of trained networks.

    Attributes:
        architecture: architecture of the networks.
        X: training inputs and test inputs, (n, …).
        named: name and labels of each function.
        source: JSON description of the data.
    """

    architecture: Architecture
    X: np.ndarray
    named: list[tuple[str, np.ndarray]]
    source: dict[str, Any]


def open_networks(path: Path, on: str, inputs_file: Path | None = None, labels_file: Path | None = None) -> TrainedFile:
    """Read networks, and the data to evaluate them on.

    Args:
        path: path of the file.
        on: set of their own data, regenerated: ``training``, ``all``, ``attack`` or ``test``.
        inputs_file: inputs instead of their own data.
        labels_file: labels of these inputs, unless the inputs file contains them.

    Returns:
        networks and data.

    Raises:
        InvalidInput: if the file does not name its data, or there is no such set.
    """
    from nngp_prior.sharpness.training.trained import Trained

    trained = Trained.load(path)
    architecture: Any = trained.architecture  # a specification: users' own networks are not supported here
    network = titles.network(architecture)
    if inputs_file is not None:
        data, source = data_of_files(inputs_file, labels_file, trained.classes)
        return TrainedFile(trained, data, source, f"{network}, {number_of(len(data[1]), 'input')} of a file")
    if labels_file is not None:
        raise InvalidInput("--labels-file", "means nothing without --inputs-file", "Add that, or leave it out.")
    sets, source = sets_of(trained, path), dict(trained.about["source"])
    parts = {"training": [sets.train], "all": [sets.train, sets.attack], "attack": [sets.attack], "test": [sets.test]}
    if on not in parts:
        raise InvalidInput("--on", f"got {on!r}", f"Choose one of {', '.join(parts)}.")
    chosen = [part for part in parts[on] if part is not None]
    if not chosen:
        raise InvalidInput("--on", f"got {on!r}, and these networks have no such set", "Choose training.")
    X, y = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    name = titles.data(source.get("dataset"), split=False)
    return TrainedFile(trained, (X, y), source, f"{network}, {len(X):,} {name} ({on} set)")


def sets_of(trained: Trained, path: Path) -> Sets:
    """Regenerate the training, attack and test set of networks.

    Args:
        trained: networks.
        path: path of their file.

    Returns:
        the sets.

    Raises:
        InvalidInput: if the file does not name its data, or the data have changed.
    """
    from nngp_prior.sharpness.training.trained_functions import training_sets_of

    try:
        return training_sets_of(trained)
    except InvalidInput as error:
        if error.field != "trained":
            raise
        problem = error.problem.replace("the networks", f"the networks of {path}")
        raise InvalidInput("FILE", problem, "Give --inputs-file and --labels-file, or train again.") from None


def functions_of_file(path: Path, asked: list[int] | None) -> Functions:
    """Return the functions of trained networks at their training and test inputs.

    Args:
        path: path of the file.
        asked: numbers of networks; default: all.

    Returns:
        the functions.
    """
    from nngp_prior.sharpness.training.trained import Trained
    from nngp_prior.sharpness.training.trained_functions import functions_of

    trained = Trained.load(path)
    remedy = "Pass trained.outputs(X).argmax(axis=-1) to log_probabilities with classes=C, in Python."
    require_one_output(trained, path, "the function of a network", remedy)
    sets = sets_of(trained, path)
    indices = places(trained, asked)
    note_statuses(trained, indices)
    X, labels = functions_of(trained, *sets.train, None if sets.test is None else sets.test[0])
    named = [(f"network {trained.seeds[i]}", labels[i]) for i in indices]
    architecture: Any = trained.architecture  # a specification: users' own networks are not supported here
    return Functions(
        architecture, X, named, {"file": str(path), "train": len(sets.train[1]), **trained.about["source"]}
    )


def data_of_files(
    inputs_file: Path, labels_file: Path | None, classes: int | None = None
) -> tuple[Examples, dict[str, Any]]:
    """Read inputs and labels from files, in order.

    Args:
        inputs_file: file of inputs, and possibly labels.
        labels_file: file of labels.
        classes: number of classes C; None for labels ±1.

    Returns:
        examples, and a JSON description of their source.
    """
    from nngp_prior.data.splits import training_data

    files = {"inputs_file": str(inputs_file), "labels_file": None if labels_file is None else str(labels_file)}
    return training_data(TrainingData(**files), classes).train, files


def note_statuses(trained: Trained, chosen: list[int]) -> None:
    """Print which networks have not met their stopping rule, since their figures may differ.

    Args:
        trained: networks.
        chosen: indices of the evaluated networks.
    """
    for i in chosen:
        if message := trained.message(i):
            output.note(f"network {trained.seeds[i]} is {trained.statuses[i]}: {message}")


def places(trained: Trained, asked: list[int] | None) -> list[int]:
    """Return the indices in the file of networks given by number.

    Args:
        trained: networks.
        asked: numbers of networks; default: all.

    Returns:
        indices.

    Raises:
        InvalidInput: if there is no such network.
    """
    for number in asked or []:
        if number not in trained.seeds:
            there = ", ".join(map(str, trained.seeds))
            raise InvalidInput("--network", f"got {number}", f"The file has {there}.")
    return [trained.seeds.index(number) for number in dict.fromkeys(asked or trained.seeds)]
