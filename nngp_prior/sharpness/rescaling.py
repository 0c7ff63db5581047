r"""Other parameters of the same function (Dinh et al. 2017, 1703.04933, section 3).

Between two layers with weights stand an activation with φ(c x) = c φ(x) for c > 0, and what is linear in each channel.
So a hidden unit (or channel) u may be divided by any c_u > 0 and multiplied by it again in the next layer:

.. math:: (W^1_{:u}, b^1_u) ← (W^1_{:u}, b^1_u) / c_u, \qquad W^2_{u:} ← c_u W^2_{u:} .
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.tree_util import tree_leaves_with_path, tree_map_with_path
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, layers_of
from nngp_prior.architectures.layers import Convolution, Dense, Layers, Sum
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.specs.architecture import PIECEWISE_LINEAR, Architecture

ALPHA = 5.9

Path = tuple[int, ...]  # to a layer's entry in the parameters


class HiddenLayer(NamedTuple):
    """A layer whose units go into one other layer with weights, through nothing that mixes or normalises them.

    Attributes:
        path: to its entry in the parameters.
        following: to that of the other layer.
        units: or channels.
    """

    path: Path
    following: Path
    units: int


def hidden_layers(architecture: Architecture | FromNetwork) -> list[HiddenLayer]:
    """The layers that can be rescaled.

    Args:
        architecture: of the network.

    Returns:
        from the input on: all hidden layers of a fully connected or convolutional network; the first convolution of
        each block of a residual one, since the outputs of others are added up.

    Raises:
        InvalidInput: it has none; its activation is not positively homogeneous; it has layer norm, behind which nothing
            is left of a factor; it is a user's own, whose layers nobody knows.
    """
    remedy = f"Use a specification with one of the activations {', '.join(PIECEWISE_LINEAR)}, and no layer norm."
    if isinstance(architecture, FromNetwork):
        raise InvalidInput("architecture", f"nobody knows the layers of {architecture.name!r}", remedy)
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
    last: tuple[Path, int] | None = None  # with weights, and nothing but φ and pooling behind it
    for i, layer in enumerate(layers):
        path = (*root, i)
        match layer:
            case Sum(main=main, shortcut=shortcut):
                # In the parameters a sum is: nothing for the copies, a branch each, nothing for the sum itself.
                found += _hidden(main, (*path, 1, 0)) + _hidden(shortcut, (*path, 1, 1))
                last = None
            case Dense() | Convolution():
                if last is not None:
                    found.append(HiddenLayer(last[0], path, last[1]))
                last = (path, layer.units if isinstance(layer, Dense) else layer.channels)
            case _:
                pass
    return found


def rescale(architecture: Architecture | FromNetwork, parameters: Any, alpha: float = ALPHA, *, layer: int = 0) -> Any:
    """Divide a hidden layer by α and multiply the next one's weights by it, which leaves the function unchanged.

    Args:
        architecture: of the network.
        parameters: as its ``init`` gives them, or with axes in front of each array, as of many seeds.
        alpha: α; Dinh et al.'s transformation by 1/α.
        layer: which, counted from 0 among ``hidden_layers``; biases of the next layer stay.

    Returns:
        other parameters, as NumPy arrays.

    Raises:
        InvalidInput: α is not positive and finite, there is no such layer, or an architecture that cannot be rescaled.
    """
    return _rescaled(architecture, parameters, {layer: np.full(1, _positive(alpha))})


def rescale_nodes(
    architecture: Architecture | FromNetwork,
    parameters: Any,
    alpha: float = ALPHA,
    *,
    layer: int | None = None,
    seed: int = 0,
) -> Any:
    """Divide each hidden unit or channel by a factor of its own, and multiply by it in the next layer.

    Args:
        architecture: of the network.
        parameters: as its ``init`` gives them, or with axes in front of each array, as of many seeds.
        alpha: factors are random between 1/α and α, their logarithms uniform.
        layer: whose units, counted from 0 among ``hidden_layers``; of all of them when absent.
        seed: of the factors.

    Returns:
        other parameters of the same function, as NumPy arrays.

    Raises:
        InvalidInput: as of :func:`rescale`.
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
    """Parameters with the units of some layers divided by factors, one or as many as there are units."""
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
    except (AttributeError, IndexError, TypeError, ValueError):  # other trees, and arrays that do not fit the factors
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
