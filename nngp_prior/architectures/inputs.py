"""Inputs of networks: vectors for fully connected ones, images for others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real
from numpy.typing import ArrayLike

from nngp_prior.architectures.from_network import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.arrays import real_array
from nngp_prior.numerics.large_arrays import first_not_finite
from nngp_prior.schemas.arrays import numeric_array
from nngp_prior.schemas.specs.architecture import (
    ARCHITECTURES,
    Architecture,
    Convolutional,
    FullyConnected,
    Residual,
    architecture_first,
)
from nngp_prior.schemas.text import short

requires_architecture = architecture_first((*ARCHITECTURES, FromNetwork))
_FEW_CHANNELS = 4  # maximum number of channels in image files


def check_inputs(name: str, X: ArrayLike, architecture: Architecture | FromNetwork) -> Float[np.ndarray, "n ..."]:
    """Return inputs in float64; otherwise as :func:`fitting_inputs`.

    Args:
        name: name of the argument, for error messages.
        X: (n, …) real numbers.
        architecture: specification of the network, or a user's own.

    Returns:
        the inputs.

    Raises:
        InvalidInput: as :func:`fitting_inputs`.
    """
    return fitting_inputs(name, X, architecture).astype(np.float64, copy=False)


def fitting_inputs(name: str, X: ArrayLike, architecture: Architecture | FromNetwork) -> Real[np.ndarray, "n ..."]:
    """Return inputs in the shape that the architecture takes, without a copy if JAX supports their type.

    Args:
        name: name of the argument, for error messages.
        X: (n, …) real numbers.
        architecture: specification of the network, or a user's own.

    Returns:
        (n, d) for a fully connected network, all axes but the first flattened; else (n, height, width, channels), where
        images of one channel may come without the last axis. For a user's network the shape is unchanged.

    Raises:
        InvalidInput: if the architecture is invalid; or X is not real, not finite, empty, has axes that the
            architecture does not take, or appears to have channels first: the last axis is the longest, or the first
            one is 4 at most and the shortest.
    """
    if not isinstance(architecture, (*ARCHITECTURES, FromNetwork)):
        error = no_architecture(architecture)
        raise error
    try:
        X = numeric_array(X)
        if X.dtype.kind not in "iuf" or X.dtype.itemsize > 8 or not X.dtype.isnative:
            X = real_array(X)
    except (TypeError, ValueError) as error:
        raise InvalidInput(name, f"is not an array of real numbers ({error})", "Pass one row per input.") from None
    if X.ndim < 2 or X.size == 0:
        raise InvalidInput(name, f"has shape {X.shape}", "Pass a non-empty array with one row an input.")
    flat = X.reshape(len(X), -1)
    i = first_not_finite(flat)
    if i is not None:
        feature = int(np.argmin(np.isfinite(flat[i])))
        raise InvalidInput(
            name, f"input {i} has the value {flat[i, feature]} at feature {feature}", "Remove or correct it."
        )
    if isinstance(architecture, FullyConnected):
        return flat
    if isinstance(architecture, FromNetwork):
        return X
    if X.ndim not in (3, 4):
        raise InvalidInput(
            name,
            f"has shape {X.shape} where a {architecture.kind} network takes images",
            "Reshape to (n, height, width), or (n, height, width, channels).",
        )
    X = X[..., None] if X.ndim == 3 else X
    _check_channels(name, X.shape, architecture)
    return X


def no_architecture(value: object) -> InvalidInput:
    """Return the error for an argument ``architecture`` that is not a specification of a network."""
    known = ", ".join(f"{kind.__name__}(…)" for kind in ARCHITECTURES)
    return InvalidInput("architecture", f"got {short(value)}", f"Pass one of {known}.")


def _check_channels(name: str, shape: tuple[int, ...], architecture: Convolutional | Residual) -> None:
    """Refuse images with another number of channels than expected, and shapes that look like channels first."""
    _, height, width, channels = shape
    expected, transpose = architecture.input_channels, f"Pass numpy.moveaxis({name}, 1, -1)"
    if expected is not None:
        if channels != expected:
            problem = f"has shape {shape}, {channels} channels in the last axis where input_channels is {expected}"
            remedy = f"{transpose}." if height == expected else "Pass (n, height, width, channels)."
            raise InvalidInput(name, problem, remedy)
    elif channels > max(height, width) or (height <= _FEW_CHANNELS and height < min(width, channels)):
        problem = f"has shape {shape}, which looks like images with channels first"
        remedy = f"{transpose}; if the last axis holds the channels, set the architecture's input_channels={channels}."
        raise InvalidInput(name, problem, remedy)
