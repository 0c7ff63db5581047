"""Trained networks, and their file format."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike
from pydantic import TypeAdapter
from typing_extensions import override

from nngp_prior import style
from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.data.npy import read_npz
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.numerics.whole_files import written_whole
from nngp_prior.schemas import titles
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.training import Training
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of
from nngp_prior.sharpness.risk.losses import error_of
from nngp_prior.sharpness.risk.networks import FiniteNetwork, Parameters, finite_network, high_precision
from nngp_prior.sharpness.training.epoch import outputs_of

Status = Literal["zero-error", "epochs-spent", "diverged", "unfinished"]
_FORMAT = 1
_ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)
_HISTORIES = ("loss", "error", "attack_loss", "attack_error")


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Tabular):
    """Networks of one architecture, trained on the same data from different seeds; the data frame has a row for each.

    Attributes:
        architecture: architecture of all networks.
        training: training specification.
        seed: random seed of all random numbers; network r of ``seeds`` does not depend on the other networks.
        seeds: number r of each network.
        parameters: in the structure of the architecture's ``init``, with a leading axis of seeds in each array. For a
            diverged network, the last finite parameters.
        statuses: ``zero-error`` if the goal was reached, ``epochs-spent`` if it was not or there was none, ``diverged``
            if an epoch ended with non-finite numbers; ``unfinished`` in the file of an interrupted run.
        epochs: number of epochs of training.
        reached: epoch after which the goal was first reached; -1 if it was not.
        history: ``loss`` (mean, in units of the loss) and ``error`` (fraction of wrong signs, an output of 0 included;
            with C outputs, fraction of examples whose label's output is not the largest) of the training set after
            0, 1, … epochs, and ``attack_loss`` and ``attack_error`` if there is an attack set. One epoch per row, one
            network per column; NaN after a network has ended.
        kept_epochs: epochs after which parameters were kept.
        kept: those parameters, with leading axes of kept epochs and seeds; NaN if a network had ended before.
        test_outputs: f at the test inputs, one network per row; with C outputs (networks, tests, C).
        test_labels: labels of the test inputs, if given.
        about: everything that the run depends on.
    """

    architecture: Architecture | FromNetwork
    training: Training
    seed: int
    seeds: tuple[int, ...]
    parameters: Parameters
    statuses: tuple[Status, ...]
    epochs: Integer[np.ndarray, " seeds"]
    reached: Integer[np.ndarray, " seeds"]
    history: Mapping[str, Float[np.ndarray, "epochs seeds"]]
    kept_epochs: Integer[np.ndarray, " kept"]
    kept: Parameters
    test_outputs: Float[np.ndarray, "seeds tests ..."] | None = None
    test_labels: Integer[np.ndarray, " tests"] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @override
    def _summary(self) -> str:
        return (
            f"{number_of(len(self), 'network')} of {self._size:,} parameters: "
            f"{', '.join(f'{count:,} {status}' for status, count in Counter(self.statuses).items())}"
        )

    @property
    def _size(self) -> int:
        """Number of parameters of one network."""
        return sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(self.parameters))

    @override
    def _table(self) -> Table:
        loss, error, test_error = self.loss, self.error, self.test_error
        columns = [
            Column("network", lambda i: self.seeds[i], "int64", "network", ""),
            Column("status", lambda i: self.statuses[i], "str", "status"),
            Column("epochs", lambda i: int(self.epochs[i]), "int64", "epochs"),
            Column("reached", lambda i: None if self.reached[i] < 0 else int(self.reached[i])),
            Column("loss", lambda i: float(loss[i]), heading=titles.loss(self.training.loss), form=".4g"),
            Column("error", lambda i: float(error[i]), heading="error", form=".4g"),
            Column("test_error", lambda i: None if test_error is None else float(test_error[i]), heading="test error"),
            Column("message", self.message, "str"),
        ]
        return Table(columns, range(len(self)))

    @override
    def _draw(self, ax: Any) -> None:
        loss = self.history["loss"]
        finite = loss[np.isfinite(loss)]
        ax.plot(np.where(np.isfinite(loss), loss, np.nan), lw=1.2, color=style.INK, alpha=max(0.15, len(self) ** -0.5))
        ax.set(xlabel="epochs", ylabel=titles.loss(self.training.loss))
        ax.set_yscale("log" if len(finite) and finite.min() > 0 else "linear")

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.seeds)

    @property
    def finite(self) -> FiniteNetwork:
        """Finite network of the parameters."""
        return finite_network(self.architecture, tuple(self.about["input_shape"]), self.classes)

    @property
    def classes(self) -> int | None:
        """Number of outputs C, for labels 0 … C-1; None for one output and labels ±1."""
        return self.about.get("classes")

    def network(self, i: int = 0, epoch: int | None = None) -> Parameters:
        """Return the parameters of one network.

        Args:
            i: index into ``seeds``.
            epoch: one of ``kept_epochs``. Default: the last epoch of the network.

        Returns:
            arrays in the structure of the architecture's ``init``.

        Raises:
            InvalidInput: if there is no such network, or no parameters were kept after that epoch.
        """
        if not -len(self) <= i < len(self):
            raise InvalidInput("i", f"got {i} of {number_of(len(self), 'network')}", f"Choose 0 to {len(self) - 1}.")
        if epoch is None:
            return jax.tree.map(lambda leaf: leaf[i], self.parameters)
        places = np.flatnonzero(self.kept_epochs == epoch)
        if not len(places) or epoch > self.epochs[i]:
            there = ", ".join(map(str, self.kept_epochs[self.kept_epochs <= self.epochs[i]])) or "none"
            remedy = "Choose one of those, or train with another keep_every."
            raise InvalidInput("epoch", f"got {epoch} where these were kept: {there}", remedy)
        return jax.tree.map(lambda leaf: leaf[places[0], i], self.kept)

    @property
    def loss(self) -> Float[np.ndarray, " seeds"]:
        """Final mean loss of each network on the training set."""
        return self._last("loss")

    @property
    def error(self) -> Float[np.ndarray, " seeds"]:
        """Final error of each network on the training set: the fraction of wrong signs, or of wrong classes."""
        return self._last("error")

    @property
    def test_error(self) -> Float[np.ndarray, " seeds"] | None:
        """Error of each network on the test set, as :attr:`error`; None if its labels are unknown."""
        if self.test_outputs is None or self.test_labels is None:
            return None
        if self.classes is not None:
            f, y = jnp.asarray(self.test_outputs), np.broadcast_to(self.test_labels, self.test_outputs.shape[:-1])
            return np.asarray(error_of(self.classes)(f, jnp.asarray(y, f.dtype))).mean(axis=1, dtype=np.float64)
        return np.mean(self.test_outputs * self.test_labels <= 0, axis=1)

    def message(self, i: int) -> str:
        """Return an explanation of a network's status.

        Args:
            i: index into ``seeds``.

        Returns:
            a sentence, or an empty string.
        """
        match self.statuses[i]:
            case "diverged":
                return (
                    f"epoch {self.epochs[i] + 1} ended with numbers that are not finite; the parameters are those "
                    "before it. Try a smaller learning rate"
                )
            case "epochs-spent" if self.training.goal != "none":
                return (
                    f"error {self.error[i]:.3g} after {self.epochs[i]:,} epochs. Allow more, or another learning rate"
                )
            case "unfinished":
                return "the run was interrupted. The same call resumes from the file"
            case _:
                return ""

    def outputs(self, X: ArrayLike) -> Float[np.ndarray, "seeds n ..."]:
        """Compute the outputs of all networks.

        Args:
            X: inputs.

        Returns:
            outputs, one network per row; labels are their signs. With C outputs (networks, n, C); the class is the
            index of the largest.

        Raises:
            InvalidInput: if inputs have another shape than those of the training.
        """
        X = check_inputs("X", X, self.architecture)
        if X.shape[1:] != tuple(self.about["input_shape"]):
            problem = f"has inputs of shape {X.shape[1:]} where the training's have {tuple(self.about['input_shape'])}"
            raise InvalidInput("X", problem, "Pass inputs of that shape.")
        with high_precision():
            return outputs_of(self.finite, self.parameters, X)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the networks to a file atomically.

        Args:
            path: path of the ``.npz`` file.
        """
        write(Path(path), self, {})

    @classmethod
    def load(cls, path: str | os.PathLike[str], architecture: FromNetwork | None = None) -> Trained:
        """Read a file written by :meth:`save`, or a checkpoint of ``train``.

        Args:
            path: path of the file.
            architecture: a user's network, of which the file has the name only.

        Returns:
            the networks.

        Raises:
            DataUnavailable: if the file does not exist, is damaged or has other contents.
            InvalidInput: if a user's network is missing, or is not that of the file.
        """
        return read(Path(path), architecture)[0]

    def _last(self, name: str) -> Float[np.ndarray, " seeds"]:
        return self.history[name][self.epochs, np.arange(len(self))]


def stored_labels(labels: Float[np.ndarray, " n"], classes: int | None) -> Integer[np.ndarray, " n"]:
    """Return labels in the dtype of ``Trained.test_labels``."""
    return labels.astype(np.int8 if classes is None else np.int64)


def described(architecture: Architecture | FromNetwork) -> dict[str, Any]:
    """Architecture as JSON-compatible values; a user's network by its name."""
    if isinstance(architecture, FromNetwork):
        return {"kind": "from-network", "name": architecture.name}
    return architecture.model_dump(mode="json")


def write(path: Path, trained: Trained, more: Mapping[str, np.ndarray]) -> None:
    """Write networks and additional arrays.

    Args:
        path: path of the file.
        trained: the networks.
        more: additional arrays, which :func:`read` returns.
    """
    arrays = {
        **_named("parameters", trained.parameters),
        **_named("kept", trained.kept),
        **{f"history/{name}": values for name, values in trained.history.items()},
        "kept_epochs": trained.kept_epochs,
        "epochs": trained.epochs,
        "reached": trained.reached,
        **{f"more/{name}": array for name, array in more.items()},
    }
    if trained.test_outputs is not None:
        arrays["test_outputs"] = trained.test_outputs
    if trained.test_labels is not None:
        arrays["test_labels"] = trained.test_labels
    manifest = {
        "format": _FORMAT,
        "about": dict(trained.about),
        "statuses": trained.statuses,
        "arrays": {name: {"shape": array.shape, "dtype": str(array.dtype)} for name, array in arrays.items()},
    }
    with written_whole(path) as file:
        np.savez(file, allow_pickle=False, manifest=np.array(json.dumps(manifest)), **arrays)


def read(path: Path, architecture: FromNetwork | None = None) -> tuple[Trained, dict[str, np.ndarray]]:
    """Read a file written by :func:`write`.

    Args:
        path: path of the file.
        architecture: a user's network.

    Returns:
        the networks and the additional arrays.

    Raises:
        DataUnavailable: if the file does not exist, is damaged or has other contents.
        InvalidInput: if a user's network is missing, or is not that of the file.
    """
    refusal = DataUnavailable(f"{path}: holds no trained networks. Name a file that training has written.")
    text = read_npz(path, "manifest").get("manifest")
    try:
        manifest = json.loads(str(text))
        about, statuses, listed = manifest["about"], manifest["statuses"], manifest["arrays"]
        name = about["architecture"].get("name") if about["architecture"]["kind"] == "from-network" else None
        if manifest["format"] != _FORMAT:
            raise refusal
    except (KeyError, ValueError, TypeError, AttributeError):
        raise refusal from None
    if name != (None if architecture is None else architecture.name):
        given = "none" if architecture is None else repr(architecture.name)
        problem = f"got {given} where {path} has {'a specification' if name is None else repr(name)}"
        raise InvalidInput("architecture", problem, "Pass the user's own network that was trained, and no other.")
    try:
        arrays = read_npz(path, *listed)
        found = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
        if found != listed:
            raise refusal
        own = architecture or _ARCHITECTURE.validate_python(about["architecture"])
        structure = finite_network(own, tuple(about["input_shape"]), about.get("classes")).structure
        trained = Trained(
            own,
            Training.model_validate(about["training"]),
            about["seed"],
            tuple(about["seeds"]),
            _tree("parameters", arrays, structure),
            tuple(statuses),
            arrays["epochs"],
            arrays["reached"],
            {name: arrays[f"history/{name}"] for name in _HISTORIES if f"history/{name}" in arrays},
            arrays["kept_epochs"],
            _tree("kept", arrays, structure),
            arrays.get("test_outputs"),
            arrays.get("test_labels"),
            about,
        )
    except (KeyError, ValueError, TypeError):  # InvalidInput and pydantic's errors are ValueErrors
        raise refusal from None
    if not _consistent(trained):
        raise refusal
    return trained, {name.removeprefix("more/"): arrays[name] for name in arrays if name.startswith("more/")}


def _named(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _tree(prefix: str, arrays: Mapping[str, np.ndarray], structure: Any) -> Any:
    return jax.tree.unflatten(structure, [arrays[f"{prefix}/{i}"] for i in range(structure.num_leaves)])


def _consistent(trained: Trained) -> bool:
    """True if shapes fit each other; checksums in the archive protect the contents."""
    seeds, kept = len(trained), len(trained.kept_epochs)
    shapes = [block.shape for block in trained.finite.blocks]
    return (
        trained.epochs.shape == trained.reached.shape == (seeds,)
        and len(trained.statuses) == seeds
        and set(trained.statuses) <= set(get_args(Status))
        and [leaf.shape for leaf in jax.tree.leaves(trained.parameters)] == [(seeds, *shape) for shape in shapes]
        and [leaf.shape for leaf in jax.tree.leaves(trained.kept)] == [(kept, seeds, *shape) for shape in shapes]
        and {"loss", "error"} <= set(trained.history)
        and all(values.shape == (int(trained.epochs.max()) + 1, seeds) for values in trained.history.values())
    )
