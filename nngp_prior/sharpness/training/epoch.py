"""One epoch of training, compiled for a batch of networks, each with its own order of examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int32

from nngp_prior.numerics.chunks import even_chunks
from nngp_prior.schemas.specs.training import FlatnessPenalty, LossName, Optimizer
from nngp_prior.sharpness.curvature.layer_partition import cuts_asked, kappa_trace
from nngp_prior.sharpness.risk.losses import error_of, loss_of
from nngp_prior.sharpness.risk.networks import FiniteNetwork, Parameters, functions_of_outputs
from nngp_prior.sharpness.risk.validation import numbers_of_example
from nngp_prior.sharpness.training.optimizers import steps_of

_CHUNK_NUMBERS = 2**24  # in the forward pass of all networks of a batch; 64 MiB in float32
_NUMBERS = 2**26  # maximal memory of a batch of networks, in numbers
_ON_PROCESSOR = 8  # networks; larger batches are no faster, and small ones replace ended networks sooner
_STEP_NUMBERS = 2**23  # activations of a step, of a batch of networks on a processor; more exceed the caches


class NetworkBatch(NamedTuple):
    """Parameters and optimizer states, with a leading axis of networks in each array."""

    parameters: Parameters
    state: Any


class Figures(NamedTuple):
    """Mean losses and errors over the training set and the attack set, one number per network.

    NaN without attack set. JAX arrays when computed, NumPy arrays when stored.
    """

    loss: Any
    error: Any
    attack_loss: Any
    attack_error: Any


class Compiled(NamedTuple):
    """Compiled functions of a batch of networks; call inside ``with high_precision():``.

    Attributes:
        rounds: number of minibatches per step.
        start: parameters -> networks, with the initial optimizer states.
        epoch: (networks, X, y, n, minibatches, keys, numbers of epochs, mask of active networks) -> (networks, figures,
            mask of finite networks). The first n examples are the training set, the others the attack set. Each network
            has its own minibatches and key. Inactive networks, and those that become non-finite, are returned
            unchanged.
        figures: (parameters, X, y, n) -> :class:`Figures`.
    """

    rounds: int
    start: Callable[..., NetworkBatch]
    epoch: Callable[..., tuple[NetworkBatch, Figures, Array]]
    figures: Callable[..., Figures]


@functools.lru_cache(maxsize=16)  # the same function objects, for JAX to compile them once
def compiled(
    network: FiniteNetwork,
    optimizer: Optimizer,
    loss: LossName,
    penalty: FlatnessPenalty | None,
    batch_size: int,
    side_by_side: int,
    dtype: str,
) -> Compiled:
    """Compile the functions of one network and one training specification.

    Args:
        network: the finite network.
        optimizer: optimizer of the steps.
        loss: name of the loss.
        penalty: penalty added to the loss.
        batch_size: number of examples in a minibatch.
        side_by_side: number of networks in each call.
        dtype: dtype of parameters.

    Returns:
        compiled functions, for any data.
    """
    steps, losses, is_error = steps_of(optimizer), loss_of(loss, network.classes), error_of(network.classes)
    rows = _rows(network, dtype, side_by_side)

    cuts = [] if penalty is None else list(cuts_asked(network, penalty.layer).values())

    def objective(theta: Parameters, X: Array, y: Array, weights: Array) -> Array:
        """Objective of a minibatch: mean loss over its examples, plus the penalty."""
        mean = weights @ losses(network.forward(theta, X), y) / weights.sum()
        if penalty is None:
            return mean
        # L + λ κ_Tr
        kappas = [kappa_trace(cut, losses, theta, X, y, weights / weights.sum()) for cut in cuts]
        return mean + penalty.strength * jnp.stack(kappas).sum()

    def figures(theta: Parameters, X: Array, y: Array, n: Array) -> Figures:
        f = _in_chunks(functools.partial(network.forward, theta), X, rows)
        training = jnp.arange(len(y)) < n
        each = [(values, where) for where in (training, ~training) for values in (losses(f, y), is_error(f, y))]
        return Figures(*(jnp.mean(values, where=where) for values, where in each))

    def epoch(
        networks: NetworkBatch, X: Array, y: Array, n: Array, chosen: Array, key: Array, number: Array, active: Array
    ) -> tuple[NetworkBatch, Figures, Array]:
        noise = jax.random.fold_in(key, number)

        def step(carry: NetworkBatch, part: tuple[Array, Array]) -> tuple[NetworkBatch, None]:
            t, batches = part

            def gradient(theta: Parameters, i: Any) -> Parameters:
                batch = batches[i]
                return jax.grad(objective)(theta, X[batch], y[batch], (batch >= 0).astype(y.dtype))

            return NetworkBatch(*steps.step(*carry, gradient, jax.random.fold_in(noise, t))), None

        after, _ = lax.scan(step, networks, (jnp.arange(len(chosen)), chosen))
        found = figures(after.parameters, X, y, n)
        parts = [*jax.tree.leaves(after), found.loss]
        finite = functools.reduce(jnp.logical_and, (jnp.isfinite(part).all() for part in parts))
        kept = jax.tree.map(lambda new, old: jnp.where(active & finite, new, old), after, networks)
        return kept, found, finite

    return Compiled(
        steps.minibatches,
        jax.jit(jax.vmap(lambda theta: NetworkBatch(theta, steps.init(theta)))),
        jax.jit(jax.vmap(epoch, (0, None, None, None, 0, 0, 0, 0))),
        jax.jit(jax.vmap(figures, (0, None, None, None))),
    )


def draws(network: FiniteNetwork, seed: int, numbers: Sequence[int], dtype: str) -> Parameters:
    """Draw parameters from the prior; call inside ``with high_precision():``.

    Args:
        network: the finite network.
        seed: random seed; network r has the key ``fold_in(key(seed), r)``.
        numbers: index r of each network.
        dtype: dtype of the result, rounded from float64.

    Returns:
        arrays with a leading axis of networks.
    """
    draw, key = _draw(network), jax.random.key(seed)
    drawn = [jax.tree.map(lambda leaf: np.asarray(leaf, dtype), draw(key, np.uint32(r))) for r in numbers]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)


@functools.lru_cache(maxsize=16)
def _draw(network: FiniteNetwork) -> Callable[..., Parameters]:
    init = functions_of_outputs(network.architecture, network.classes).init
    # Compiling a random number generator takes longer than running it, hence fewer optimisations.
    return jax.jit(
        lambda key, r: init(jax.random.fold_in(key, r), (1, *network.input_shape))[1],
        compiler_options={"xla_backend_optimization_level": 1},
    )


def minibatches(rng: np.random.Generator, n: int, size: int, rounds: int) -> Int32[np.ndarray, "steps rounds size"]:
    """Return the examples of the steps of an epoch, in a separate order for each of its rounds.

    Args:
        rng: random generator of the orders.
        n: number of examples.
        size: number of examples in a minibatch, at most n.
        rounds: passes through the examples, equal to the number of minibatches per step.

    Returns:
        indices of examples; -1 pads the last minibatch of a round.
    """
    steps = -(-n // size)
    order = np.full((rounds, steps * size), -1, dtype=np.int32)
    order[:, :n] = rng.permuted(np.tile(np.arange(n), (rounds, 1)), axis=1)
    return order.reshape(steps, rounds, size)


def side_by_side(network: FiniteNetwork, batch_size: int, dtype: str, networks: int) -> int:
    """Return the number of networks to train in one call.

    Args:
        network: the finite network.
        batch_size: number of examples in a minibatch.
        dtype: dtype of parameters.
        networks: total number of networks.

    Returns:
        at least 1: as many as fit into about 256 MiB (in float32), on a processor at most 8, and one for a large
        convolutional network.
    """
    most = most_on_processor(network, batch_size, dtype) if jax.default_backend() == "cpu" else networks
    return max(1, min(networks, most, _NUMBERS // (6 * network.size + _activations(network, batch_size, dtype))))


def most_on_processor(network: FiniteNetwork, batch_size: int, dtype: str) -> int:
    """Return the maximal number of networks in one call on a processor; see :func:`side_by_side`."""
    activations = _activations(network, batch_size, dtype)
    return max(1, min(_ON_PROCESSOR, _STEP_NUMBERS // activations, _NUMBERS // (6 * network.size + activations)))


def _activations(network: FiniteNetwork, batch_size: int, dtype: str) -> int:
    """Numbers in the activations of a step; 6 times the parameters are them, gradient, state, and them before."""
    return 4 * batch_size * numbers_of_example(network, dtype)


def outputs_of(network: FiniteNetwork, parameters: Parameters, X: Float[np.ndarray, "n ..."]) -> np.ndarray:
    """Return the outputs of networks, one network at a time; call inside ``with high_precision():``.

    Args:
        network: the finite network.
        parameters: parameters with a leading axis of networks in each array.
        X: inputs, in the shape that the network takes.

    Returns:
        outputs, (networks, n), or (networks, n, C).
    """
    dtype = str(jax.tree.leaves(parameters)[0].dtype)
    return np.asarray(_outputs(network, _rows(network, dtype, 1))(parameters, jnp.asarray(X, dtype)))


@functools.lru_cache(maxsize=16)
def _outputs(network: FiniteNetwork, rows: int) -> Callable[..., Array]:
    def one(theta: Parameters, X: Array) -> Array:
        return _in_chunks(functools.partial(network.forward, theta), X, rows)

    return jax.jit(lambda parameters, X: lax.map(lambda theta: one(theta, X), parameters))


def _rows(network: FiniteNetwork, dtype: str, networks: int) -> int:
    """Number of examples at a time for computing all outputs."""
    return max(1, _CHUNK_NUMBERS // (numbers_of_example(network, dtype) * networks))


def _in_chunks(function: Callable[[Array], Array], X: Array, rows: int) -> Array:
    """Apply a function to chunks of examples; the last chunk is padded with copies of the first example."""
    n = len(X)
    chunks, rows = even_chunks(n, rows)
    if chunks == 1:
        return function(X)
    filled = np.where(np.arange(chunks * rows) < n, np.arange(chunks * rows), 0)
    found = lax.map(function, X[filled].reshape(chunks, rows, *X.shape[1:]))
    return found.reshape(-1, *found.shape[2:])[:n]
