r"""Empirical risk: the loss of a network on data, as a function of the flat vector of parameters θ.

.. math:: L(θ) = \frac1n \sum_i \ell(f(θ, x_i), y_i)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.training import LossName
from nngp_prior.schemas.text import number_of
from nngp_prior.sharpness.risk.chunked_inputs import laid_out
from nngp_prior.sharpness.risk.losses import LOSSES, Loss, error_of, loss_of
from nngp_prior.sharpness.risk.networks import (
    FiniteNetwork,
    ParameterBlock,
    Parameters,
    checked_classes,
    finite_network,
    high_precision,
)
from nngp_prior.sharpness.risk.validation import checked_data, fitting_rows

_GRADIENT_BYTES = 2**27  # memory of gradients of single examples

Vector = Float[Array, " P"] | Float[np.ndarray, " P"]
P = ParamSpec("P")
T = TypeVar("T")


def _compiled(method: Callable[P, T]) -> Callable[P, T]:
    """Compile a method of :class:`EmpiricalRisk`, once for all risks that differ in array values only."""
    compiled = jax.jit(method)

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with high_precision():
            return compiled(*args, **kwargs)

    return call


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("theta", "inputs", "labels", "weights"),
    meta_fields=("network", "loss_name", "n"),
)
@dataclass(frozen=True, eq=False)
class EmpiricalRisk:
    """A network at parameters θ, a loss, and data.

    The class is a pytree: a function compiled for one risk is not compiled again for another of the same shapes, and
    the data are not constants of the program. All methods are JAX-traceable and can be compiled into larger functions
    inside ``with high_precision():``. They take any θ; ``theta`` is the θ of this network. Memory is bounded by the
    chunk, not by the data, for all methods and for ``jax.grad`` of :meth:`loss`.

    Attributes:
        theta: flat vector of parameters, (P,).
        inputs: inputs in chunks of equal size; the last chunk is padded with copies of an input.
        labels: labels ±1, or 0 … C-1 for a network with C outputs, (chunks, rows).
        weights: weights in a mean, (chunks, rows): 1/n for examples and 0 for padding.
        network: the finite network.
        loss_name: ``cross-entropy`` or ``mse``.
        n: number of examples.
    """

    # Arrays, or placeholders while JAX handles pytrees.
    theta: Any
    inputs: Any
    labels: Any
    weights: Any
    network: FiniteNetwork
    loss_name: LossName
    n: int

    def __repr__(self) -> str:
        parameters, examples = number_of(self.network.size, "parameter"), number_of(self.n, "example")
        return f"<EmpiricalRisk {parameters}, {examples}, {self.loss_name}>"

    @classmethod
    @requires_architecture
    def of(
        cls,
        architecture: Architecture | FromNetwork,
        parameters: Parameters,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str = "cross-entropy",
        dtype: str = "float64",
        chunk: int | None = None,
        classes: int | None = None,
    ) -> EmpiricalRisk:
        """Create from an architecture, its parameters and data.

        Args:
            architecture: a specification, or a user's network with one output, or C.
            parameters: as returned by ``init`` of the finite network.
            X: (n, …) inputs. If they are larger than one chunk and 64 MiB, they are read from this array, which may be
                a file mapped into memory and must not be modified from now on.
            y: (n,) labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
            loss: ``cross-entropy`` (nats, of one logit, or of the softmax of C) or ``mse``, (f - y)², or the sum of it
                over C outputs and the one-hot label.
            dtype: dtype of all computations, ``float64`` or ``float32``.
            chunk: number of examples processed at a time. Default: as many as fit into about 128 MiB.
            classes: number of outputs C, for labels 0 … C-1. Default: one output, for labels ±1.

        Returns:
            the risk.

        Raises:
            InvalidInput: if the loss, dtype or number of classes is invalid, or parameters are not finite or do not
                fit; for inputs and labels as in :func:`checked_data`.
        """
        if loss not in LOSSES:
            raise InvalidInput("loss", f"got {loss!r}", f"Choose one of {', '.join(LOSSES)}.")
        if dtype not in ("float64", "float32"):
            raise InvalidInput("dtype", f"got {dtype!r}", "Choose float64 or float32.")
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1):
            raise InvalidInput("chunk", f"got {chunk!r}", "Pass a number of examples, at least 1.")
        inputs, labels = checked_data(architecture, X, y, classes=checked_classes(classes))
        network = finite_network(architecture, inputs.shape[1:], classes)
        theta = network.flatten(parameters, dtype)
        with high_precision():
            rows = chunk or fitting_rows(network, dtype)
            return EmpiricalRisk(jnp.asarray(theta), *laid_out(inputs, labels, dtype, rows), network, loss, len(inputs))

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.network.size

    @property
    def blocks(self) -> tuple[ParameterBlock, ...]:
        """Position of each layer's weights and biases in θ."""
        return self.network.blocks

    @property
    def chunk(self) -> int:
        """Number of examples processed at a time."""
        return self.labels.shape[1]

    @property
    def classes(self) -> int | None:
        """Number of outputs C for labels 0 … C-1; None for one output and labels ±1."""
        return self.network.classes

    @property
    def output_loss(self) -> Loss:
        """ℓ as a function of outputs and labels."""
        return loss_of(self.loss_name, self.network.classes)

    @property
    def in_one_chunk(self) -> bool:
        """True if all examples are in one chunk."""
        return len(self.labels) == 1

    @property
    def dtype(self) -> Any:
        """Dtype of all computations."""
        return self.theta.dtype

    @property
    def X(self) -> Float[Array, "n ..."]:
        """Inputs, (n, ...)."""
        with high_precision():
            return self.inputs.take(jnp.arange(self.n))

    @property
    def y(self) -> Float[Array, " n"]:
        """Labels ±1, or 0 … C-1, (n,)."""
        return self.labels.reshape(-1)[: self.n]

    def unravel(self, theta: Vector) -> Parameters:
        """Return θ in the structure of the network's parameters."""
        return self.network.unflatten(theta)

    def at(self, theta: Vector) -> EmpiricalRisk:
        """Return the same risk at other parameters."""
        with high_precision():
            return replace(self, theta=jnp.asarray(theta, self.dtype))

    def subset(self, rows: Sequence[int] | Integer[np.ndarray, " k"]) -> EmpiricalRisk:
        """Return the risk on a subset of the examples; subsets of equal size share compiled functions.

        Args:
            rows: indices of examples; repeated indices count repeatedly.

        Returns:
            the risk whose loss is the mean over them.

        Raises:
            InvalidInput: if there are no indices, or one is out of range.
        """
        chosen = np.asarray(rows)
        if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= self.n:
            raise InvalidInput("rows", f"got {rows!r}", f"Name at least one, each from 0 to {self.n - 1}.")
        with high_precision():
            X, y = np.asarray(self.inputs.take(chosen)), np.asarray(self.y)[chosen]
            return EmpiricalRisk(
                self.theta, *laid_out(X, y, self.dtype.name, self.chunk), self.network, self.loss_name, len(X)
            )

    def outputs(self, theta: Vector, X: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Return f(θ, x) for a batch of inputs (JAX-traceable).

        Args:
            theta: parameters.
            X: (b, …) inputs.

        Returns:
            one output per input, or C.
        """
        return self.network.forward(self.network.unflatten(theta), X)

    def example_losses(self, theta: Vector, X: Float[Array, "b ..."], y: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return ℓ(f(θ, x), y) for a batch of examples (JAX-traceable).

        Args:
            theta: parameters.
            X: (b, …) inputs.
            y: labels.

        Returns:
            one loss per example.
        """
        return self.output_loss(self.outputs(theta, X), y)

    def example_gradients(self, theta: Vector, X: Float[Array, "b ..."], y: Float[Array, " b"]) -> Float[Array, "b P"]:
        """Return ∇ℓ for a batch of examples, all in memory (JAX-traceable).

        Args:
            theta: parameters.
            X: (b, …) inputs.
            y: labels.

        Returns:
            one gradient per example.
        """

        def one(x: Array, label: Array) -> Array:
            return jax.grad(lambda theta: self.example_losses(theta, x[None], label[None])[0])(theta)

        return jax.vmap(one)(X, y)

    @_compiled
    def all_outputs(self, theta: Vector) -> Float[Array, "n ..."]:
        """Return f(θ, x) for all inputs.

        Args:
            theta: parameters.

        Returns:
            one output per input, or C.
        """
        return self.of_examples(lambda X: self.outputs(theta, X))

    @_compiled
    def loss(self, theta: Vector) -> Float[Array, ""]:
        """Return L(θ), the mean over all examples.

        Args:
            theta: parameters.

        Returns:
            the mean loss.
        """
        return self.total(lambda X, y, w: w @ self.example_losses(theta, X, y))

    @_compiled
    def error(self, theta: Vector) -> Float[Array, ""]:
        """Return the fraction of examples with y f ≤ 0; with C outputs, whose label's output is not the largest.

        Args:
            theta: parameters.

        Returns:
            error between 0 and 1.
        """
        return self.total(lambda X, y, w: w @ error_of(self.classes)(self.outputs(theta, X), y))

    @_compiled
    def gradient(self, theta: Vector) -> Float[Array, " P"]:
        """Return ∇L(θ).

        Args:
            theta: parameters.

        Returns:
            the gradient.
        """
        return self.total(self._chunk_gradient(theta))

    @_compiled
    def value_and_gradient(self, theta: Vector) -> tuple[Float[Array, ""], Float[Array, " P"]]:
        """Return L(θ) and ∇L(θ).

        Args:
            theta: parameters.

        Returns:
            both.
        """

        def part(X: Array, y: Array, w: Array) -> Any:
            return jax.value_and_grad(lambda theta: w @ self.example_losses(theta, X, y))(theta)

        return self.total(part)

    def total(self, part: Callable[[Array, Array, Array], Any]) -> Any:
        """Sum over chunks, sequentially (JAX-traceable).

        Args:
            part: (X, y, w) -> arrays: the contribution of one chunk. w is 1/n for examples and 0 for the padding of the
                last chunk: weighted sums over examples are means over the data.

        Returns:
            the sum of the results of ``part``.
        """

        def of_chunk(i: Any) -> Any:
            return part(self.inputs.chunk(i), self.labels[i], self.weights[i])

        if self.in_one_chunk:
            return of_chunk(0)
        # The backward pass reads and computes chunks again, so that only one is kept.
        again = jax.checkpoint(jax.jit(of_chunk))  # jitted: traced once for both uses
        chunks = jnp.arange(len(self.labels))
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), jax.eval_shape(again, chunks[0]))
        return lax.scan(lambda sum_, i: (jax.tree.map(jnp.add, sum_, again(i)), None), zeros, chunks)[0]

    def of_examples(self, part: Callable[[Array], Array]) -> Array:
        """Apply a function to all examples, chunk by chunk (JAX-traceable).

        Args:
            part: X -> values for a chunk, one row per example.

        Returns:
            values, one row per example.
        """
        values = lax.map(lambda i: part(self.inputs.chunk(i)), jnp.arange(len(self.labels)))
        return values.reshape(-1, *values.shape[2:])[: self.n]

    def mean_over_gradients(self, function: Callable[[Array, Array, Array], Any], theta: Vector) -> Any:
        """Return the mean over examples of a function of ∇f, computed for a few examples at a time (JAX-traceable).

        Args:
            function: (∇f, f, y) of one example -> arrays; ∇f is (P,), or with C outputs (C, P).
            theta: parameters.

        Returns:
            the mean of its results.
        """
        at_a_time = max(
            1, min(self.chunk, _GRADIENT_BYTES // (4 * self.size * (self.classes or 1) * self.dtype.itemsize))
        )

        def part(X: Array, y: Array, w: Array) -> Any:
            def one(example: tuple[Array, Array, Array]) -> Any:
                x, label, weight = example
                f, gradient = self._output_gradient(theta, x)
                return jax.tree.map(lambda value: weight * value, function(gradient, f, label))

            return jax.tree.map(lambda values: values.sum(axis=0), lax.map(one, (X, y, w), batch_size=at_a_time))

        return self.total(part)

    def _output_gradient(self, theta: Any, x: Array) -> tuple[Array, Array]:
        """f and ∇f of one example; with C outputs (C,) and (C, P)."""
        if self.classes is None:
            return jax.value_and_grad(lambda theta: self.outputs(theta, x[None])[0])(theta)
        f, back = jax.vjp(lambda theta: self.outputs(theta, x[None])[0], theta)
        return f, jax.vmap(lambda row: back(row)[0])(jnp.eye(len(f), dtype=f.dtype))

    def _chunk_gradient(self, theta: Any) -> Callable[[Array, Array, Array], Array]:
        return lambda X, y, w: jax.grad(lambda theta: w @ self.example_losses(theta, X, y))(theta)
