"""Training loop: batches of networks trained together, metric history, checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.architectures import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.checkpoint import Checkpoint
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.specs.training import Training
from nngp_prior.sharpness.cost import training_cost
from nngp_prior.sharpness.risk.networks import FiniteNetwork, Parameters
from nngp_prior.sharpness.training.epoch import (
    Figures,
    NetworkBatch,
    compiled,
    draws,
    minibatches,
    outputs_of,
    side_by_side,
)
from nngp_prior.sharpness.training.trained import Status, Trained, read, stored_labels, write


class TrainingArrays(NamedTuple):
    """Validated data: training set followed by attack set; and the test set, if any."""

    X: Float[np.ndarray, "points ..."]
    y: Float[np.ndarray, " points"]
    n: int
    test: tuple[Float[np.ndarray, "tests ..."], Float[np.ndarray, " tests"]] | None


class TrainingRun:
    """State of a training run: all networks in NumPy arrays, those currently trained on the device.

    Call the methods inside ``with high_precision():``.

    Args:
        network: the finite network.
        training: training specification.
        seed: random seed of all random numbers.
        numbers: numbers r of the networks.
        data: training data.
        about: everything that the networks depend on.
    """

    def __init__(
        self,
        network: FiniteNetwork,
        training: Training,
        seed: int,
        numbers: tuple[int, ...],
        data: TrainingArrays,
        about: dict[str, Any],
    ) -> None:
        self._network, self._training, self._seed, self._numbers = network, training, seed, numbers
        self._data, self._about = data, about
        self._size = side_by_side(network, training.batch_size, training.dtype, len(numbers))
        self._functions = compiled(  # pyright does not know that frozen models have a hash
            network,
            training.optimizer,  # pyright: ignore[reportArgumentType]
            training.loss,
            training.penalty,  # pyright: ignore[reportArgumentType]
            training.batch_size,
            self._size,
            training.dtype,
        )
        dtype = training.dtype
        self._examples = jnp.asarray(data.X, dtype), jnp.asarray(data.y, dtype), jnp.asarray(data.n)
        # A separate key name: the noise of optimizers is independent of the initialisations.
        key = jax.random.key(int(generator(seed, "noise").integers(2**63)))
        self._keys: Any = jax.vmap(jax.random.fold_in, (None, 0))(key, np.array(numbers, dtype=np.uint32))

    def start(self, initial: Parameters | None) -> None:
        """Start from given parameters, or from draws from the prior.

        Args:
            initial: parameters with a leading axis of networks in each array.
        """
        seeds, parts = len(self._numbers), []
        if initial is None:
            initial = draws(self._network, self._seed, self._numbers, self._training.dtype)
        for first in range(0, seeds, self._size):
            places = np.minimum(np.arange(first, first + self._size), seeds - 1)  # constant size, to compile once
            parameters = jax.tree.map(lambda leaf, places=places: jnp.asarray(leaf[places]), initial)
            figures = self._functions.figures(parameters, *self._examples)
            parts.append(jax.tree.map(np.asarray, (self._functions.start(parameters), figures)))
        networks, figures = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:seeds], *parts)
        self._networks: NetworkBatch = networks
        self._epochs = np.zeros(seeds, dtype=np.int64)
        self._reached = np.full(seeds, -1)
        self._history = [Figures(*(values.astype(np.float64) for values in figures))]
        self._kept: list[list[np.ndarray]] = []
        self._diverged = ~np.isfinite(figures.loss)
        self._reached[~self._diverged & self._at_goal(figures)] = 0

    def resume_from(self, path: Path) -> None:
        """Resume from a checkpoint file.

        Args:
            path: path of the file.

        Raises:
            InvalidInput: if the file belongs to another call.
        """
        own = self._network.architecture
        before, more = read(path, own if isinstance(own, FromNetwork) else None)
        if before.about != self._about:
            others = ", ".join(name for name in self._about if before.about.get(name) != self._about[name])
            problem = f"{path} is of another call (another {others or 'version'})"
            raise InvalidInput("checkpoint", problem, "Name another file.")
        state = jax.eval_shape(self._functions.start, before.parameters).state
        names = [f"state/{i}" for i in range(len(jax.tree.leaves(state)))]
        if not set(names) <= set(more):
            problem = f"{path} has networks without the optimizer's state, as their save writes them"
            raise InvalidInput("checkpoint", problem, "Name another file.")
        leaves = [more[name] for name in names]
        self._networks = NetworkBatch(before.parameters, jax.tree.unflatten(jax.tree.structure(state), leaves))
        self._epochs, self._reached = before.epochs.copy(), before.reached.copy()
        missing = np.full_like(before.history["loss"], np.nan)
        columns = (before.history.get(name, missing) for name in Figures._fields)
        self._history = [Figures(*row) for row in zip(*columns, strict=True)]
        kept = jax.tree.leaves(before.kept)
        self._kept = [[leaf[k].copy() for leaf in kept] for k in range(len(before.kept_epochs))]
        self._diverged = np.array([status == "diverged" for status in before.statuses])

    def to_the_end(self, path: Path | None, report: ProgressCallback) -> None:
        """Train epoch by epoch until all networks have ended.

        Args:
            path: path of the checkpoint file; None for no file.
            report: called after each epoch.
        """
        if self._active().any():
            self._announce(report)
        chosen, networks = np.zeros(0, dtype=int), None

        def save(path: Path) -> None:
            self._put(chosen, networks)
            self._save(path)

        checkpoint = Checkpoint(path, save)
        while self._active().any():
            places = self._side_by_side()
            if not np.array_equal(places, chosen):
                self._put(chosen, networks)
                chosen, networks = places, jax.tree.map(lambda leaf, p=places: jnp.asarray(leaf[p]), self._networks)
            active = self._active()[chosen]
            networks, figures, finite = self._functions.epoch(
                networks, *self._examples, self._minibatches(chosen), self._keys[chosen], self._epochs[chosen], active
            )
            self._tell(chosen, active, networks, jax.tree.map(np.asarray, figures), np.asarray(finite))
            report(Progress("networks", self._ended(), len(self._epochs)))
            report(Progress("epochs", self._epochs_done(), self._limit()))
            if self._active().any():
                checkpoint.save_if_due()
        self._put(chosen, networks)
        checkpoint.save()

    def _announce(self, report: ProgressCallback) -> None:
        """Report the cost of the maximal number of epochs left."""
        report(Progress("networks", self._ended(), len(self._epochs)))
        limit, own = self._limit(), self._network.architecture
        if not isinstance(own, FromNetwork):
            left, networks = limit - int(self._epochs[self._active()].min()), int(self._active().sum())
            cost = training_cost(own, self._data.X.shape, self._training, networks, left)
            report(Progress("epochs", self._epochs_done(), limit, cost, at_most=self._training.goal != "none"))

    def _epochs_done(self) -> int:
        """Epochs done: the mean of all networks if each takes all epochs, else those of the network furthest on."""
        if self._training.goal == "none":  # proportional to the time also if networks take turns
            return int(self._epochs.mean())
        active = self._active()
        return int(self._epochs[active if active.any() else slice(None)].max())

    def _ended(self) -> int:
        return len(self._epochs) - int(self._active().sum())

    def _limit(self) -> int:
        return self._training.epochs + self._training.extra_epochs

    def trained(self) -> Trained:
        """Return the networks in their current state."""
        leaves, structure = jax.tree.flatten(self._networks.parameters)
        shapes = [leaf.shape for leaf in leaves]
        kept = [
            np.stack([row[i] for row in self._kept]) if self._kept else np.empty((0, *shape), leaf.dtype)
            for i, (leaf, shape) in enumerate(zip(leaves, shapes, strict=True))
        ]
        every = self._training.keep_every or 1
        rows = self._history[: int(self._epochs.max()) + 1]
        history = {name: np.stack([getattr(row, name) for row in rows]) for name in Figures._fields}
        if self._data.n == len(self._data.y):
            del history["attack_loss"], history["attack_error"]
        test = None if self._active().any() else self._data.test
        return Trained(
            self._network.architecture,
            self._training,
            self._seed,
            self._numbers,
            self._networks.parameters,
            self._statuses(),
            self._epochs.copy(),
            self._reached.copy(),
            history,
            every * np.arange(1, len(self._kept) + 1),
            jax.tree.unflatten(structure, kept),
            None if test is None else outputs_of(self._network, self._networks.parameters, test[0]),
            None if test is None else stored_labels(test[1], self._network.classes),
            self._about,
        )

    def _active(self) -> np.ndarray:
        """Mask of networks with epochs left."""
        spent = np.where(self._reached < 0, self._training.epochs, self._reached + self._training.extra_epochs)
        return ~self._diverged & (self._epochs < spent)

    def _side_by_side(self) -> Integer[np.ndarray, " side"]:
        """Sorted indices of the networks trained next: the first unfinished ones, padded with ended ones."""
        # They depend only on the contents of a file, so that a resumed run has the same bits.
        active = self._active()
        first = np.flatnonzero(active)[: self._size]
        return np.sort(np.concatenate([first, np.flatnonzero(~active)[: self._size - len(first)]]))

    def _minibatches(self, chosen: np.ndarray) -> np.ndarray:
        """Minibatches of the next epoch of the chosen networks; they differ between networks and epochs."""
        n, size = len(self._data.y), self._training.batch_size
        streams = (generator(self._seed, "minibatches", self._numbers[place], self._epochs[place]) for place in chosen)
        return np.stack([minibatches(rng, n, size, self._functions.rounds) for rng in streams])

    def _at_goal(self, figures: Figures) -> np.ndarray:
        """Mask of networks that label all points of the goal correctly."""
        right = figures.error == 0
        match self._training.goal:
            case "training":
                return right
            case "all":
                return right & ~(figures.attack_error > 0)  # NaN without attack set
            case "none":
                return np.zeros_like(right)

    def _tell(
        self, chosen: np.ndarray, active: np.ndarray, networks: NetworkBatch, figures: Figures, finite: np.ndarray
    ) -> None:
        """Record the results of an epoch."""
        self._diverged[chosen[active & ~finite]] = True
        moved = np.flatnonzero(active & finite)
        self._epochs[chosen[moved]] += 1
        goal = moved[self._at_goal(figures)[moved]]
        first = chosen[goal][self._reached[chosen[goal]] < 0]
        self._reached[first] = self._epochs[first]
        every = self._training.keep_every
        for epoch in np.unique(self._epochs[chosen[moved]]).tolist():
            here = moved[self._epochs[chosen[moved]] == epoch]
            while len(self._history) <= epoch:
                self._history.append(Figures(*(np.full(len(self._epochs), np.nan) for _ in Figures._fields)))
            for row, values in zip(self._history[epoch], figures, strict=True):
                row[chosen[here]] = values[here]
            if every is not None and epoch % every == 0:
                self._keep(epoch // every - 1, chosen, here, networks.parameters)

    def _keep(self, k: int, chosen: np.ndarray, here: np.ndarray, parameters: Parameters) -> None:
        while len(self._kept) <= k:
            self._kept.append([np.full_like(leaf, np.nan) for leaf in jax.tree.leaves(self._networks.parameters)])
        for row, leaf in zip(self._kept[k], jax.tree.leaves(parameters), strict=True):
            row[chosen[here]] = np.asarray(leaf[here])

    def _put(self, chosen: np.ndarray, networks: NetworkBatch | None) -> None:
        """Copy networks from the device."""
        if networks is not None:
            for leaf, new in zip(jax.tree.leaves(self._networks), jax.tree.leaves(networks), strict=True):
                leaf[chosen] = np.asarray(new)

    def _statuses(self) -> tuple[Status, ...]:
        def status(diverged: bool, active: bool, reached: int) -> Status:
            if diverged:
                return "diverged"
            if active:
                return "unfinished"
            return "epochs-spent" if reached < 0 else "zero-error"

        each = zip(self._diverged.tolist(), self._active().tolist(), self._reached.tolist(), strict=True)
        return tuple(status(*how) for how in each)

    def _save(self, path: Path) -> None:
        state = {f"state/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(self._networks.state))}
        write(path, self.trained(), state)
