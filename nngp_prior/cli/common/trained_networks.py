"""Trained networks from a file, and the data that they are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from nngp_prior.cli.common import output, titles
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.text import number_of

if TYPE_CHECKING:
    from nngp_prior.data.splits import Examples, Sets
    from nngp_prior.schemas.specs.architecture import Architecture
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
    from nngp_prior.sharpness.training.trained import Trained

File = Annotated[Path, typer.Argument(help="what sharpness train wrote (.npz)", show_default=False)]
On = Annotated[str, typer.Option("--on", help="training: without the attack set; all: with it; attack; or test")]
Epoch = Annotated[int | None, typer.Option(help="parameters kept after this epoch; the last ones when absent")]
Network = Annotated[int | None, typer.Option(help="a network's number; default: the first of the file")]
Loss = Annotated[str | None, typer.Option(help="cross-entropy or mse; the one trained with when absent")]


class TrainedFile(NamedTuple):
    """What a file holds.

    Attributes:
        trained: the networks.
        data: X, (n, …), and y, ±1.
        source: where the data come from, for JSON.
        title: of tables and plots.
    """

    trained: Trained
    data: tuple[np.ndarray, np.ndarray]
    source: dict[str, Any]
    title: str

    def risk(self, i: int, epoch: int | None, loss: str | None, dtype: str) -> EmpiricalRisk:
        """One network with its data.

        Args:
            i: its place in the file.
            epoch: whose parameters; the last when absent.
            loss: the one trained with when absent.
            dtype: of what is computed.

        Returns:
            the risk.
        """
        from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

        loss = loss or self.trained.training.loss
        parameters = self.trained.network(i, epoch)
        return EmpiricalRisk.of(self.trained.architecture, parameters, self.data, loss=loss, dtype=dtype)


def open_networks(path: Path, on: str, inputs_file: Path | None = None, labels_file: Path | None = None) -> TrainedFile:
    """Read networks, and the data that they are measured on.

    Args:
        path: of the file.
        on: which set of their own data, made again: ``training``, ``all``, ``attack`` or ``test``.
        inputs_file: inputs in the place of their own data.
        labels_file: labels of these, which may also come with them.

    Returns:
        both.

    Raises:
        InvalidInput: the file does not say what data it is of, or there is no such set.
    """
    from nngp_prior.sharpness.training.trained import Trained

    trained = Trained.load(path)
    architecture: Any = trained.architecture  # a specification: users' own networks are not opened here
    network = titles.network(architecture)
    if inputs_file is not None:
        data, source = data_of_files(inputs_file, labels_file)
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
    """Training, attack and test set of networks, made again.

    Args:
        trained: the networks.
        path: of their file.

    Returns:
        the sets.

    Raises:
        InvalidInput: the file does not say what data it is of, or they have changed.
    """
    from nngp_prior.sharpness.training.trained_functions import training_sets_of

    try:
        return training_sets_of(trained)
    except InvalidInput as error:
        if error.field != "trained":
            raise
        problem = error.problem.replace("the networks", f"the networks of {path}")
        raise InvalidInput("FILE", problem, "Give --inputs-file and --labels-file, or train again.") from None


def functions_of_file(
    path: Path, asked: list[int] | None
) -> tuple[Architecture, np.ndarray, list[tuple[str, np.ndarray]], dict[str, Any]]:
    """The functions that trained networks compute at their training and test inputs.

    Args:
        path: of the file.
        asked: numbers of networks; all when there are none.

    Returns:
        their architecture, the inputs, names and labels, and what JSON says of them.
    """
    from nngp_prior.sharpness.training.trained import Trained
    from nngp_prior.sharpness.training.trained_functions import functions_of

    trained = Trained.load(path)
    sets = sets_of(trained, path)
    indices = places(trained, asked)
    note_statuses(trained, indices)
    X, labels = functions_of(trained, sets.train, None if sets.test is None else sets.test[0])
    named = [(f"network {trained.seeds[i]}", labels[i]) for i in indices]
    architecture: Any = trained.architecture  # a specification: users' own networks are not opened here
    return architecture, X, named, {"file": str(path), "train": len(sets.train[1]), **trained.about["source"]}


def data_of_files(inputs_file: Path, labels_file: Path | None) -> tuple[Examples, dict[str, Any]]:
    """Inputs and labels from files, in their order.

    Args:
        inputs_file: of inputs, and perhaps labels.
        labels_file: of labels.

    Returns:
        both, and where they come from, for JSON.
    """
    from nngp_prior.data.splits import training_data

    files = {"inputs_file": str(inputs_file), "labels_file": None if labels_file is None else str(labels_file)}
    return training_data(TrainingData(**files)).train, files


def note_statuses(trained: Trained, chosen: list[int]) -> None:
    """Say which networks are not trained to the end of their rule, so that figures are not taken for those of one.

    Args:
        trained: the networks.
        chosen: indices of those that are measured.
    """
    for i in chosen:
        if message := trained.message(i):
            output.note(f"network {trained.seeds[i]} is {trained.statuses[i]}: {message}")


def places(trained: Trained, asked: list[int] | None) -> list[int]:
    """Places in the file of networks that are named by their numbers.

    Args:
        trained: the networks.
        asked: their numbers; all when there are none.

    Returns:
        places.

    Raises:
        InvalidInput: there is no such network.
    """
    for number in asked or []:
        if number not in trained.seeds:
            there = ", ".join(map(str, trained.seeds))
            raise InvalidInput("--network", f"got {number}", f"The file has {there}.")
    return [trained.seeds.index(number) for number in dict.fromkeys(asked or trained.seeds)]
