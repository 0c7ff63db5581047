"""Weights of a network by layer name, and remedies for other layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.arrays import numeric_array

_REMEDY = "Pass what init gave or train returned, or pairs [(weights, biases), …] from the input on."


def named_weights(parameters: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a network by name; layers are numbered from the input on.

    Args:
        parameters: nested tuples and lists, whose innermost ones have the weights of a layer and its biases; without
            biases, the second entry is None or missing.

    Returns:
        arrays under ``dense 1/weight``, ``dense 1/bias``, ``convolution 2/weight``, …

    Raises:
        InvalidInput: if ``parameters`` has another structure.
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
    """Return a remedy for weights in PyTorch's layout, which are not (inputs, units) or (size, size, channels in, out).

    Args:
        name: name of the array in the remedy.
        shape: shape of the given weights.
        expected: required shape.

    Returns:
        a sentence; None if it is not PyTorch's layout. For a square dense layer shapes cannot distinguish the two.
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
