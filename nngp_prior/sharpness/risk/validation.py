"""Validation of data for a network, and the number of examples that fit into a chunk."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Real
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import fitting_inputs
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.sharpness.risk.networks import FiniteNetwork

_CHUNK_BYTES = 2**27  # approximate memory of the examples of one chunk in a Hessian product


def checked_data(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    names: tuple[str, str] = ("X", "y"),
    classes: int | None = None,
) -> tuple[Real[np.ndarray, "n ..."], Float[np.ndarray, " n"]]:
    """Return inputs, in their dtype, and labels in float64, in the shapes that the network takes.

    Args:
        architecture: a specification, or a user's network.
        X: (n, …) inputs.
        y: (n,) labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        names: names of both arguments, for messages.
        classes: number of classes C; None for labels ±1.

    Returns:
        inputs and labels; labels are ±1, or 0 … C-1.

    Raises:
        InvalidInput: if ``architecture`` is not an architecture, or inputs are not real, not finite or have another
            number of axes.
        InvalidLabels: if labels have other values, or their number differs from that of the inputs.
    """
    inputs = fitting_inputs(names[0], X, architecture)
    labels = check_labels(y, len(inputs), classes, takes_classes=True, field=names[1])
    return inputs, labels.astype(np.float64, copy=False)


def fitting_rows(network: FiniteNetwork, dtype: str) -> int:
    """Return the number of examples whose inputs, activations, tangents and backward pass fit into a chunk.

    Args:
        network: the finite network.
        dtype: dtype of the activations.

    Returns:
        number of examples, at least 1.
    """
    numbers = max(math.prod(network.input_shape), 4 * numbers_of_example(network, dtype))
    return max(1, _CHUNK_BYTES // (numbers * np.dtype(dtype).itemsize))


@functools.lru_cache(maxsize=64)
def numbers_of_example(network: FiniteNetwork, dtype: str) -> int:
    """Count the numbers in all arrays of the forward pass that one more example adds.

    Args:
        network: the finite network.
        dtype: dtype of inputs and parameters.

    Returns:
        the count, at least 1.
    """
    theta = jax.ShapeDtypeStruct((network.size,), dtype)

    def numbers(rows: int) -> int:
        X = jax.ShapeDtypeStruct((rows, *network.input_shape), dtype)
        return _numbers(jax.make_jaxpr(lambda theta, X: network.forward(network.unflatten(theta), X))(theta, X).jaxpr)

    return max(1, numbers(2) - numbers(1))


def _numbers(jaxpr: Any) -> int:
    """Count the numbers in all arrays that a computation creates, including inner functions."""
    count = 0
    for equation in jaxpr.eqns:
        inner = [value.jaxpr for value in equation.params.values() if hasattr(getattr(value, "jaxpr", None), "eqns")]
        made = sum(math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
        count += sum(map(_numbers, inner)) if inner else made
    return count
