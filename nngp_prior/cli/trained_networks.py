"""Trained networks from a file, and the data that they are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from pydantic import TypeAdapter

from nngp_prior.cli import output
from nngp_prior.cli.problems import parse_dataset
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.data import Labelling

if TYPE_CHECKING:
    from nngp_prior.sharpness.problem import Problem
    from nngp_prior.sharpness.trained import Trained

_LABELLING: TypeAdapter[Labelling] = TypeAdapter(Labelling)

File = Annotated[Path, typer.Argument(help="what sharpness train wrote (.npz)", show_default=False)]
On = Annotated[str, typer.Option("--on", help="training: without the attack set; all: with it; attack; or test")]
Epoch = Annotated[int | None, typer.Option(help="parameters kept after this epoch; the last ones when absent")]
Network = Annotated[int | None, typer.Option(help="a network's number; default: the first of the file")]
Loss = Annotated[str | None, typer.Option(help="cross-entropy or mse; the one trained with when absent")]


class Networks(NamedTuple):
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

    def problem(self, i: int, epoch: int | None, loss: str | None, dtype: str) -> Problem:
        """One network with its data.

        Args:
            i: its place in the file.
            epoch: whose parameters; the last when absent.
            loss: the one trained with when absent.
            dtype: of what is computed.

        Returns:
            the problem.
        """
        from nngp_prior.sharpness.problem import Problem

        loss = loss or self.trained.training.loss
        parameters = self.trained.network(i, epoch)
        return Problem.of(self.trained.architecture, parameters, self.data, loss=loss, dtype=dtype)


def open_networks(path: Path, on: str) -> Networks:
    """Read networks, and make the data again that they were trained on.

    Args:
        path: of the file.
        on: which set: ``training``, ``all``, ``attack`` or ``test``.

    Returns:
        both.

    Raises:
        InvalidInput: the file does not say what data it is of, or there is no such set.
    """
    from nngp_prior.data.splits import training_sets
    from nngp_prior.sharpness.trained import Trained

    trained = Trained.load(path)
    source = trained.about.get("source") or {}
    if not {"dataset", "labelling", "attack", "test"} <= set(source):
        problem = f"{path} does not say what data its networks were trained on"
        raise InvalidInput("FILE", problem, "Measure it from Python: nngp_prior.sharpness.measure.")
    dataset, labelling = parse_dataset(source["dataset"]), _LABELLING.validate_python(source["labelling"])
    sets = training_sets(dataset, labelling, source["attack"], source["test"])
    parts = {"training": [sets.train], "all": [sets.train, sets.attack], "attack": [sets.attack], "test": [sets.test]}
    if on not in parts:
        raise InvalidInput("--on", f"got {on!r}", f"Choose one of {', '.join(parts)}.")
    chosen = [part for part in parts[on] if part is not None]
    if not chosen:
        raise InvalidInput("--on", f"got {on!r}, and these networks have no such set", "Choose training.")
    X, y = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    title = f"{trained.architecture.kind}, {len(X):,} {dataset.kind} ({on} set)"  # pyright: ignore[reportAttributeAccessIssue]
    return Networks(trained, (X, y), dict(source), title)


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
