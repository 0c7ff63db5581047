"""Optimizer steps as functions of parameters, a state and gradients on minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nngp_prior.registry import Registry
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, Momentum, Optimizer

Gradient = Callable[[Any, Any], Any]  # (parameters, index of a minibatch of the step) -> gradient


class Steps(NamedTuple):
    """An optimizer.

    Attributes:
        minibatches: number of minibatches per step.
        init: parameters -> state.
        step: (parameters, state, gradient, key) -> (parameters, state); ``gradient`` takes parameters and the index of
            one of the step's minibatches.
    """

    minibatches: int
    init: Callable[[Any], Any]
    step: Callable[[Any, Any, Gradient, Any], tuple[Any, Any]]


OPTIMIZERS: Registry[Callable[..., Steps]] = Registry()


def steps_of(optimizer: Optimizer) -> Steps:
    """Return the steps of an optimizer.

    Args:
        optimizer: specification of the optimizer.

    Returns:
        pure functions, on pytrees of arrays.
    """
    return OPTIMIZERS[optimizer](optimizer)


def _plain(transformation: optax.GradientTransformation) -> Steps:
    """Steps with one gradient each."""

    def step(theta: Any, state: Any, gradient: Gradient, key: Any) -> tuple[Any, Any]:
        del key
        return _moved(transformation, theta, state, gradient(theta, 0))

    return Steps(1, transformation.init, step)


def _moved(transformation: optax.GradientTransformation, theta: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
    updates, state = transformation.update(gradient, state, theta)
    return optax.apply_updates(theta, updates), state


@OPTIMIZERS.register(SGD)
def _sgd(optimizer: SGD) -> Steps:
    return _plain(optax.sgd(optimizer.learning_rate))


@OPTIMIZERS.register(Momentum)
def _momentum(optimizer: Momentum) -> Steps:
    return _plain(optax.sgd(optimizer.learning_rate, optimizer.momentum, optimizer.nesterov))


@OPTIMIZERS.register(Adam)
def _adam(optimizer: Adam) -> Steps:
    return _plain(optax.adam(optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon))


@OPTIMIZERS.register(SAM)
def _sam(optimizer: SAM) -> Steps:
    descent = optax.sgd(optimizer.learning_rate, optimizer.momentum)

    def step(theta: Any, state: Any, gradient: Gradient, key: Any) -> tuple[Any, Any]:
        del key
        # θ ← θ - η g(θ + ρ g(θ)/‖g(θ)‖)
        g = gradient(theta, 0)
        norm = optax.tree.norm(g)
        reach = optimizer.rho / jnp.where(norm == 0, 1, norm)
        displaced = jax.tree.map(lambda t, d: t + reach * d, theta, g)
        return _moved(descent, theta, state, gradient(displaced, 0))

    return Steps(1, descent.init, step)


class _EntropyState(NamedTuple):
    """Momentum of the outer steps, and their number t."""

    outer: Any
    t: Any


@OPTIMIZERS.register(EntropySGD)
def _entropy_sgd(optimizer: EntropySGD) -> Steps:
    eta, alpha, epsilon = optimizer.langevin_rate, optimizer.averaging, optimizer.noise
    outer = optax.sgd(optimizer.learning_rate, optimizer.momentum, nesterov=True)
    inner = optax.trace(optimizer.langevin_momentum, nesterov=True)

    def init(theta: Any) -> _EntropyState:
        return _EntropyState(outer.init(theta), jnp.zeros((), jnp.int32))

    def step(theta: Any, state: _EntropyState, gradient: Gradient, key: Any) -> tuple[Any, _EntropyState]:
        # γ = γ₀ (1 + γ₁)ᵗ
        gamma = optimizer.scope * (1 + optimizer.scoping) ** state.t

        def langevin(carry: tuple[Any, Any, Any], i: Any) -> tuple[tuple[Any, Any, Any], None]:
            inside, velocity, mu = carry
            g, velocity = inner.update(gradient(inside, i), velocity)
            noise = _normals(jax.random.fold_in(key, i), theta)
            # θ' ← θ' - η' (g - γ (θ - θ')) + √η' ε N(0, I)
            inside = jax.tree.map(
                lambda p, d, t, z: p - eta * (d - gamma.astype(p.dtype) * (t - p)) + eta**0.5 * epsilon * z,
                inside,
                g,
                theta,
                noise,
            )
            # μ ← α μ + (1 - α) θ'
            mu = jax.tree.map(lambda m, p: alpha * m + (1 - alpha) * p, mu, inside)
            return (inside, velocity, mu), None

        start = (theta, inner.init(theta), theta)
        (_, _, mu), _ = jax.lax.scan(langevin, start, jnp.arange(optimizer.langevin_steps))
        # θ ← θ - η (θ - μ)
        towards = jax.tree.map(jnp.subtract, theta, mu)
        theta, momentum = _moved(outer, theta, state.outer, towards)
        return theta, _EntropyState(momentum, state.t + 1)

    return Steps(optimizer.langevin_steps, init, step)


def _normals(key: Any, like: Any) -> Any:
    """Standard normal numbers in the shapes of a pytree."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
