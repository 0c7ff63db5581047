"""Weights of a network by the names of its layers, and what to do with those in another layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.arrays import numeric_array

_REMEDY = "Pass what init gave or train returned, or pairs [(weights, biases), …] from the input on."


def named_weights(parameters: Any) -> dict[str, np.ndarray]:
    """The arrays of a network by their names: layers are numbered from the input on.

    Args:
        parameters: nested tuples and lists, in the innermost of which stand the weights of a layer and its biases; a
            layer without biases has None, or nothing, in their place.

    Returns:
        arrays under ``dense 1/weight``, ``dense 1/bias``, ``convolution 2/weight``, …

    Raises:
        InvalidInput: they are something else.
    """
    found: dict[str, np.ndarray] = {}
    layers = list(_layers(parameters))
    for number, layer in enumerate(layers, start=1):
        arrays = [_array(part) for part in layer if part is not None]
        kind = {2: "dense", 4: "convolution"}.get(arrays[0].ndim)
        if kind is None or len(arrays) > 2:
            problem = f"layer {number} has arrays of shapes {', '.join(str(array.shape) for array in arrays)}"
            raise InvalidInput("parameters", problem, _REMEDY)
        found |= {f"{kind} {number}/{role}": array for role, array in zip(("weight", "bias"), arrays, strict=False)}
    if not found:
        raise InvalidInput("parameters", "hold no arrays", _REMEDY)
    return found


def layout_remedy(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str | None:
    """What turns weights of PyTorch's layout into ours, (inputs, units) or (size, size, channels in, channels out).

    Args:
        name: what stands for the array in the remedy.
        shape: of the weights at hand.
        expected: the shape that is needed.

    Returns:
        a sentence; None if it is no such layout. Of a square dense layer shapes cannot tell.
    """
    if shape == expected or len(shape) != len(expected):
        return None
    if len(shape) == 2 and shape == expected[::-1]:
        return f"Transpose? PyTorch has (units, inputs): pass {name}.T."
    if len(shape) == 4 and shape == tuple(expected[axis] for axis in (3, 2, 0, 1)):
        return f"Transpose? PyTorch has (channels out, channels in, size, size): pass {name}.transpose(2, 3, 1, 0)."
    return None


def _layers(tree: Any) -> Iterator[Sequence[Any]]:
    if not isinstance(tree, tuple | list):
        raise InvalidInput("parameters", f"hold a {type(tree).__name__} among the layers", _REMEDY)
    if tree and tree[0] is not None and not isinstance(tree[0], tuple | list):
        yield tree
        return
    for part in tree:
        yield from _layers(part)


def _array(value: Any) -> np.ndarray:
    try:
        return numeric_array(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("parameters", f"is not an array of real numbers ({error})", _REMEDY) from None
