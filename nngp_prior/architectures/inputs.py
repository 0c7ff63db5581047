"""Inputs of networks: vectors for fully connected ones, images for others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures.from_network import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.arrays import real_array
from nngp_prior.schemas.architecture import Architecture, FullyConnected


def check_inputs(name: str, X: ArrayLike, architecture: Architecture | FromNetwork) -> Float[np.ndarray, "n ..."]:
    """Inputs in float64 and in the shape that the architecture takes.

    Args:
        name: of the argument, for the error.
        X: (n, …) real numbers.
        architecture: the specification of the network, or a user's own.

    Returns:
        (n, d) for a fully connected network, all axes but the first flattened; else (n, height, width, channels), where
        images of one channel may come without the last axis. A user's network takes what it is given.

    Raises:
        InvalidInput: not real, not finite, empty, or of axes that the architecture has no use for.
    """
    try:
        X = real_array(X)
    except (TypeError, ValueError) as error:
        raise InvalidInput(name, f"is not an array of real numbers ({error})", "Pass one row an input.") from None
    if X.ndim < 2 or X.size == 0:
        raise InvalidInput(name, f"has shape {X.shape}", "Pass a non-empty array with one row an input.")
    flat = X.reshape(len(X), -1)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        i = int(np.argmin(finite))
        feature = int(np.argmin(np.isfinite(flat[i])))
        raise InvalidInput(
            name, f"input {i} has the value {flat[i, feature]} at feature {feature}", "Remove or mend it."
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
    return X[..., None] if X.ndim == 3 else X
