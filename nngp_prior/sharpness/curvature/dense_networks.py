r"""Products with the Hessian of a fully connected network, in as few passes over the inputs as possible.

With a⁰ = x, z^l = W^{lT} a^{l-1} + b^l, a^l = φ(z^l), f = z^L, and R{·} the derivative along v (Pearlmutter 1994, "Fast
exact multiplication by the Hessian", eqs 3.9 to 3.12),

.. math::
    R\{z^l\} = W^{lT} R\{a^{l-1}\} + V^{lT} a^{l-1} + c^l, \qquad R\{a^l\} = φ'(z^l) ∘ R\{z^l\}, \\
    δ^{l-1} = (W^l δ^l) ∘ φ', \qquad
    R\{δ^{l-1}\} = (W^l R\{δ^l\} + V^l δ^l) ∘ φ' + (W^l δ^l) ∘ φ'' ∘ R\{z^{l-1}\}, \\
    R\{∂L/∂W^l\} = R\{a^{l-1}\}\, δ^{lT} + a^{l-1} R\{δ^l\}^T .

All quantities without R{·} are computed once for products with many vectors; each product has two products with the
inputs left, V¹ᵀ X and X R{δ¹}ᵀ. Examples are columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from nngp_prior.architectures import network_of
from nngp_prior.architectures.layers import Activation
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected

_SAMPLE = 1000  # number of examples sufficient for the first layer's part of a start vector


class _Layer(NamedTuple):
    weights: Array
    biases: Array | None


class _Hidden(NamedTuple):
    """Quantities between two layers, for b examples.

    Attributes:
        a: φ(z), (k, b), with z the outputs of the layer before.
        d: φ'(z), (k, b).
        bend: (W δ) ∘ φ''(z), (k, b), with W and δ of the layer after; None if it is zero.
        delta: δ of the layer after, (m, b); None for matrices without the terms in δ.
    """

    a: Array
    d: Array
    bend: Array | None
    delta: Array | None


class Linearisation(NamedTuple):
    """Quantities shared by all products.

    Attributes:
        hidden: quantities between layers, from the input on.
        factors: factors of R{f}, (b,).
    """

    hidden: tuple[_Hidden, ...]
    factors: Array


class _Along(NamedTuple):
    """Quantities between two layers that depend on the vector.

    Attributes:
        mixed: R{a} δᵀ, (k, m); None without δ.
        Rz: R{z}, (k, b); None if φ'' is zero.
    """

    mixed: Array | None
    Rz: Array | None


class Intermediates(NamedTuple):
    """Half-finished products; each array has a leading axis of vectors.

    Attributes:
        V: the vectors, (k, P).
        between: quantities between layers, from the input on.
        Rf: R{f}, (k, 1, b).
    """

    V: Array
    between: tuple[_Along, ...]
    Rf: Array


def has_formulas(network: Any) -> bool:
    """True if the formulas hold for a network."""
    architecture = network.architecture
    plain = isinstance(architecture, FullyConnected) and not architecture.layer_norm
    return plain and len(network.input_shape) == 1 and network.classes is None


def bytes_a_vector(network: Any, dtype: Any) -> int:
    """Memory of a product per example: R{z}, R{a} and R{δ} of all layers.

    Args:
        network: the finite network.
        dtype: dtype of all numbers.

    Returns:
        number of bytes.
    """
    return 3 * sum(block.shape[-1] for block in network.blocks if block.role == "weight") * dtype.itemsize


def linearise(
    network: Any, theta: Array, X: Array, factors: Callable[[Array], Array], slopes: Callable[[Array], Array] | None
) -> Linearisation:
    """Forward pass and, for the Hessian, backward pass (JAX-traceable).

    Args:
        network: the finite network.
        theta: parameters θ, flat.
        X: inputs, (b, d).
        factors: outputs (b,) -> w ℓ'' for H and G.
        slopes: outputs (b,) -> w ℓ', for H; None for G and other matrices Σ c ∇f ∇fᵀ.

    Returns:
        the linearisation, for :func:`forward` and :func:`backward`; it does not contain the inputs.
    """
    layers = _layers(network, theta)
    activated, f = _forward(network, layers, X)
    if slopes is None:
        return Linearisation(tuple(_Hidden(a, d, None, None) for a, d, _ in activated), factors(f))
    hidden: list[_Hidden] = []
    delta = slopes(f)[None]
    for layer, (a, d, dd) in zip(layers[:0:-1], activated[::-1], strict=True):
        through = layer.weights @ delta
        hidden.insert(0, _Hidden(a, d, None if network.piecewise_linear else through * dd, delta))
        delta = through * d
    return Linearisation(tuple(hidden), factors(f))


def forward(
    network: Any, theta: Array, X: Array, linearisation: Linearisation, V: Array
) -> tuple[Array, Intermediates]:
    r"""Compute vᵀ H v of several vectors, from R{·} of the forward pass only (JAX-traceable).

    .. math:: v^T H v = \sum_i w_i \ell'' R\{f_i\}^2 + 2 \sum_l \langle V^l, R\{a^{l-1}\} δ^{lT} \rangle
        + \sum_l \langle (W^{l+1} δ^{l+1}) ∘ φ'', R\{z^l\}^2 \rangle

    Args:
        network: the finite network.
        theta: parameters θ, flat.
        X: inputs, (b, d), read in one pass for all vectors.
        linearisation: as :func:`linearise` returned it.
        V: vectors, (k, P).

    Returns:
        (k,) numbers, and the intermediates for :func:`backward`.
    """
    layers = _layers(network, theta)

    def one(v: Array, of_inputs: Array) -> tuple[Array, tuple[_Along, ...], Array]:
        directions = _layers(network, v)
        Rz, between, quadratic = _plus(of_inputs, directions[0]), [], jnp.zeros((), v.dtype)
        for layer, direction, hidden in zip(layers[1:], directions[1:], linearisation.hidden, strict=True):
            Ra, mixed = hidden.d * Rz, None
            if hidden.delta is not None:
                mixed = Ra @ hidden.delta.T
                quadratic += 2 * jnp.vdot(direction.weights, mixed)
            if hidden.bend is not None:
                quadratic += jnp.vdot(hidden.bend, Rz**2)
            between.append(_Along(mixed, None if hidden.bend is None else Rz))
            Rz = _plus(layer.weights.T @ Ra + direction.weights.T @ hidden.a, direction)
        return quadratic + jnp.vdot(linearisation.factors, Rz[0] ** 2), tuple(between), Rz

    weights = jax.vmap(lambda v: _layers(network, v)[0].weights.T)(V)
    of_inputs = _of_inputs(weights.reshape(-1, X.shape[1]), X).reshape(len(V), -1, len(X))
    quadratics, between, Rf = one_by_one(one, V, of_inputs)
    return quadratics, Intermediates(V, between, Rf)


def backward(network: Any, theta: Array, X: Array, linearisation: Linearisation, intermediates: Intermediates) -> Array:
    """Compute H v of the vectors (JAX-traceable).

    Args:
        network: the finite network.
        theta: parameters θ, flat.
        X: inputs, (b, d).
        linearisation: as :func:`linearise` returned it.
        intermediates: as :func:`forward` returned them.

    Returns:
        products, (k, P).
    """
    layers = _layers(network, theta)

    def one(v: Array, between: tuple[_Along, ...], Rf: Array) -> tuple[Array, Array]:
        directions, Rdelta = _layers(network, v), linearisation.factors * Rf
        products: list[Array] = []
        for layer, direction, hidden, along in zip(
            layers[:0:-1], directions[:0:-1], linearisation.hidden[::-1], between[::-1], strict=True
        ):
            of_weights, back = hidden.a @ Rdelta.T, layer.weights @ Rdelta
            if hidden.delta is not None and along.mixed is not None:
                of_weights += along.mixed
                back += direction.weights @ hidden.delta
            products = [of_weights.ravel(), *_of_biases(layer, Rdelta), *products]
            Rdelta = back * hidden.d
            if hidden.bend is not None and along.Rz is not None:
                Rdelta += hidden.bend * along.Rz
        return Rdelta, jnp.concatenate([jnp.zeros(0, v.dtype), *_of_biases(layers[0], Rdelta), *products])

    Rdelta, products = one_by_one(one, *intermediates)
    of_weights = _times_inputs(Rdelta.reshape(-1, len(X)), X).reshape(len(Rdelta), -1, X.shape[1])
    return jnp.concatenate([of_weights.transpose(0, 2, 1).reshape(len(Rdelta), -1), products], axis=1)


def one_by_one(function: Callable[..., Any], *stacks: Any) -> Any:
    """Apply a function to each entry of stacked arrays, sequentially (JAX-traceable)."""
    if len(jax.tree.leaves(stacks)[0]) == 1:
        single = function(*jax.tree.map(lambda stack: stack[0], stacks))
        return jax.tree.map(lambda array: array[None], single)
    return lax.map(lambda of_each: function(*of_each), stacks)


def start_vector(network: Any, theta: Array, X: Array, linearisation: Linearisation) -> Array:
    """Compute Σ c ∇f over examples with factors c; about 1,000 examples represent all of them in the first layer.

    JAX-traceable.

    Args:
        network: the finite network.
        theta: parameters θ, flat.
        X: inputs, (b, d).
        linearisation: as :func:`linearise` returned it.

    Returns:
        the sum, flat, accurate enough to start an iteration from.
    """
    layers, delta = _layers(network, theta), linearisation.factors[None]
    gradients: list[Array] = []
    for layer, hidden in zip(layers[:0:-1], linearisation.hidden[::-1], strict=True):
        gradients = [(hidden.a @ delta.T).ravel(), *_of_biases(layer, delta), *gradients]
        delta = (layer.weights @ delta) * hidden.d
    stride = max(1, len(X) // _SAMPLE)
    sample = delta[:, ::stride]
    of_weights = (len(X) / sample.shape[1]) * _times_inputs(sample, X[::stride])
    return jnp.concatenate([of_weights.T.ravel(), *_of_biases(layers[0], delta), *gradients])


def squared_gradients(network: Any, theta: Array, X: Array) -> tuple[Array, Array]:
    r"""Compute outputs, and ‖∇f‖² per example and layer, (‖a^{l-1}‖² + 1) ‖∂f/∂z^l‖² (JAX-traceable).

    Args:
        network: the finite network.
        theta: parameters θ, flat.
        X: inputs, (b, d).

    Returns:
        outputs, (b,), and squares, (layers, b).
    """
    layers = _layers(network, theta)
    activated, f = _forward(network, layers, X)
    inputs = [jnp.sum(X**2, axis=1), *(jnp.sum(a**2, axis=0) for a, _, _ in activated)]
    delta, squares = jnp.ones_like(f)[None], []
    for place in reversed(range(len(layers))):
        bias = 0.0 if layers[place].biases is None else 1.0
        squares.append((inputs[place] + bias) * jnp.sum(delta**2, axis=0))
        if place:
            delta = (layers[place].weights @ delta) * activated[place - 1][1]
    return f, jnp.stack(squares[::-1])


def _forward(network: Any, layers: list[_Layer], X: Array) -> tuple[list[tuple[Array, Array, Array]], Array]:
    """φ, φ' and φ'' between layers, and the outputs (b,)."""
    z, activated = _plus(_of_inputs(layers[0].weights.T, X), layers[0]), []
    for layer in layers[1:]:
        activated.append(_activated(network.architecture, z))
        z = _plus(layer.weights.T @ activated[-1][0], layer)
    return activated, z[0]


# XLA takes up to three times as long for a product with the inputs if it may omit a transposition in memory.


def _of_inputs(weights: Array, X: Array) -> Array:
    """Wᵀ Xᵀ from Wᵀ."""
    return lax.dot_general(lax.optimization_barrier(weights), X, (((1,), (1,)), ((), ())))


def _times_inputs(delta: Array, X: Array) -> Array:
    """δ X."""
    return lax.optimization_barrier(delta @ X)


def _layers(network: Any, theta: Array) -> list[_Layer]:
    found: dict[str, dict[str, Array]] = {}
    for block in network.blocks:
        found.setdefault(block.layer, {})[block.role] = theta[block.start : block.stop].reshape(block.shape)
    return [_Layer(arrays["weight"], arrays.get("bias")) for arrays in found.values()]


def _plus(products: Array, layer: _Layer) -> Array:
    return products if layer.biases is None else products + layer.biases.reshape(-1, 1)


def _of_biases(layer: _Layer, of_outputs: Array) -> list[Array]:
    """The entries of a layer's biases, if it has them."""
    return [] if layer.biases is None else [of_outputs.sum(axis=1)]


def _activated(architecture: Architecture, z: Array) -> tuple[Array, Array, Array]:
    """φ(z), φ'(z), φ''(z)."""
    phi = _activation(architecture.activation, architecture.negative_slope)

    def first(z: Array) -> tuple[Array, Array]:
        return jax.jvp(phi, (z,), (jnp.ones_like(z),))

    (a, d), (_, dd) = jax.jvp(first, (z,), (jnp.ones_like(z),))
    return a, d, dd


@functools.lru_cache(maxsize=32)
def _activation(name: Any, negative_slope: float) -> Callable[[Array], Array]:
    apply = network_of((Activation(name, negative_slope),)).apply
    return lambda z: apply([()], z)
