r"""Other parameters that compute the same function (Dinh et al. 2017, 1703.04933, section 3).

Between two layers with weights there are an activation with φ(c x) = c φ(x) for c > 0 and operations that are linear in
each channel. So a hidden unit (or channel) u may be divided by any c_u > 0 and multiplied by it in the next layer:

.. math:: (W^1_{:u}, b^1_u) ← (W^1_{:u}, b^1_u) / c_u, \qquad W^2_{u:} ← c_u W^2_{u:} .
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.tree_util import tree_leaves_with_path, tree_map_with_path
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, layers_of
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.architectures.layers import Convolution, Dense, Layers, Sum
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.specs.architecture import PIECEWISE_LINEAR, Architecture

ALPHA = 5.9

Path = tuple[int, ...]  # path to a layer's entry in the parameters


class HiddenLayer(NamedTuple):
    """A layer that feeds a single other layer with weights, without mixing or normalisation of its units in between.

    Attributes:
        path: path to its entry in the parameters.
        following: path to the entry of the other layer.
        units: number of units or channels.
    """

    path: Path
    following: Path
    units: int


def hidden_layers(architecture: Architecture | FromNetwork) -> list[HiddenLayer]:
    """Return the layers that can be rescaled.

    Args:
        architecture: architecture of the network.

    Returns:
        layers from the input on: all hidden layers of a fully connected or convolutional network; the first convolution
        of each block of a residual network, since the outputs of the others are summed.

    Raises:
        InvalidInput: if there are no such layers, the activation is not positively homogeneous, layer norm would remove
            the factor, or the network is a user's own, whose layers are unknown.
    """
    remedy = f"Use a specification with one of the activations {', '.join(PIECEWISE_LINEAR)}, and no layer norm."
    if isinstance(architecture, FromNetwork):
        raise InvalidInput("architecture", f"the layers of {architecture.name!r} are unknown", remedy)
    if architecture.activation not in PIECEWISE_LINEAR:
        problem = f"{architecture.activation} has no φ(c x) = c φ(x): another scale is another function"
        raise InvalidInput("architecture.activation", problem, remedy)
    if architecture.layer_norm:
        raise InvalidInput("architecture.layer_norm", "takes away the scale that the next layer is to undo", remedy)
    found = _hidden(layers_of(architecture), ())
    if not found:
        raise InvalidInput("architecture", "has no hidden layer", "Rescale a network that has one.")
    return found


def _hidden(layers: Layers, root: Path) -> list[HiddenLayer]:
    found: list[HiddenLayer] = []
    last: tuple[Path, int] | None = None  # last layer with weights, followed so far by φ and pooling only
    for i, layer in enumerate(layers):
        path = (*root, i)
        match layer:
            case Sum(main=main, shortcut=shortcut):
                # A sum has three entries in the parameters: nothing for the copies, its branches, nothing for the sum
                # itself.
                found += _hidden(main, (*path, 1, 0)) + _hidden(shortcut, (*path, 1, 1))
                last = None
            case Dense() | Convolution():
                if last is not None:
                    found.append(HiddenLayer(last[0], path, last[1]))
                last = (path, layer.units if isinstance(layer, Dense) else layer.channels)
            case _:
                pass
    return found


@requires_architecture
def rescale(architecture: Architecture | FromNetwork, parameters: Any, alpha: float = ALPHA, *, layer: int = 0) -> Any:
    """Divide a hidden layer by α and multiply the next layer's weights by it, which leaves the function unchanged.

    Args:
        architecture: architecture of the network.
        parameters: as returned by ``init``, optionally with leading axes in each array, such as one of seeds.
        alpha: α; this is the transformation of Dinh et al. with 1/α.
        layer: index into ``hidden_layers``, from 0; biases of the next layer do not change.

    Returns:
        rescaled parameters, as NumPy arrays.

    Raises:
        InvalidInput: if α is not positive and finite, there is no such layer, or the architecture cannot be rescaled.
    """
    return _rescaled(architecture, parameters, {layer: np.full(1, _positive(alpha))})


@requires_architecture
def rescale_nodes(
    architecture: Architecture | FromNetwork,
    parameters: Any,
    alpha: float = ALPHA,
    *,
    layer: int | None = None,
    seed: int = 0,
) -> Any:
    """Divide each hidden unit or channel by its own factor, and multiply by it in the next layer.

    Args:
        architecture: architecture of the network.
        parameters: as returned by ``init``, optionally with leading axes in each array, such as one of seeds.
        alpha: factors are random between 1/α and α, log-uniformly.
        layer: index into ``hidden_layers``, from 0. Default: all of them.
        seed: random seed of the factors.

    Returns:
        rescaled parameters of the same function, as NumPy arrays.

    Raises:
        InvalidInput: as for :func:`rescale`.
    """
    spread = abs(math.log(_positive(alpha)))
    hidden = hidden_layers(architecture)
    chosen = range(len(hidden)) if layer is None else [_place(layer, hidden)]
    return _rescaled(
        architecture,
        parameters,
        {i: np.exp(generator(seed, "nodes", i).uniform(-spread, spread, hidden[i].units)) for i in chosen},
    )


def _rescaled(
    architecture: Architecture | FromNetwork, parameters: Any, factors: dict[int, Float[np.ndarray, " units"]]
) -> Any:
    """Divide the units of layers by factors, one per layer or one per unit."""
    hidden = hidden_layers(architecture)
    dividing, multiplying = {}, {}
    for layer, c in factors.items():
        path, following, units = hidden[_place(layer, hidden)]
        dividing[path] = multiplying[following] = np.broadcast_to(c, units)

    def scaled(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        place, part = tuple(key.idx for key in path[:-1]), path[-1].idx  # part 0 is the weights, 1 the biases
        leaf = np.asarray(leaf)
        found = leaf.astype(np.float64)
        if place in dividing:
            found = found / dividing[place]
        if place in multiplying and part == 0:
            # Flattened images have the channel as their fastest index.
            c = multiplying[place]
            found = found * np.tile(c, leaf.shape[-2] // len(c))[:, None]
        return found.astype(leaf.dtype)

    remedy = "Pass what init gave, or train returned, for this architecture."
    refusal = InvalidInput("parameters", "are not those of the architecture", remedy)
    try:
        moved = tree_map_with_path(scaled, parameters)
        places = {tuple(key.idx for key in path[:-1]) for path, _ in tree_leaves_with_path(moved)}
    except (AttributeError, IndexError, TypeError, ValueError):  # another tree, or arrays that do not fit the factors
        raise refusal from None
    if not {*dividing, *multiplying} <= places:
        raise refusal
    return moved


def _positive(alpha: float) -> float:
    if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        raise InvalidInput("alpha", f"got {alpha!r}", "Pass a positive number.")
    return float(alpha)


def _place(layer: int, hidden: list[HiddenLayer]) -> int:
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < len(hidden):
        raise InvalidInput("layer", f"got {layer!r} where there are {len(hidden)}", f"Choose 0 to {len(hidden) - 1}.")
    return layer
