r"""Image convolution that is fast on a CPU, with derivatives of any order; accelerators use XLA's own.

XLA's CPU back end has fast code for one layout only: examples, height, width, channels, without reversed windows. It
rewrites other layouts to this one outside of loops, but not inside of ``scan``, ``map`` and ``while``, where the
derivatives that JAX makes of a convolution take up to 50 times as long; grouped convolutions, which ``vmap`` over
weights makes, are slow everywhere. Here each derivative is written in the fast layout. The form

.. math:: \langle g, y(x, W) \rangle = \sum_{nijo} g_{nijo} \sum_{abc} x_{n, si+a, sj+b, c} W_{abco}

is linear in the input x, the weights W and the cotangent g. Output, cotangent of the input and cotangent of the weights
are its gradients in g, x and W, each a function of the two others, so that derivatives of any order are again one of
these three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Float

from nngp_prior.numerics.chunks import even_chunks
from nngp_prior.schemas.specs.architecture import Padding

# Convolutions in float64, which XLA compiles to loops:
_FEW = 16  # not vectorised with at most this many channels both in and out
_VECTORS = 32  # number of outputs that is fastest
_CACHE_BYTES = 3 * 2**18  # size of the cotangents of a block of examples, which all windows use

_Part = Literal["output", "input", "weights"]
# Arguments of the gradient in each part, in the order of the primitive's arguments.
_ARGUMENTS: dict[_Part, tuple[_Part, _Part]] = {
    "output": ("input", "weights"),
    "input": ("output", "weights"),
    "weights": ("input", "output"),
}


class Window(NamedTuple):
    """Geometry of a convolution.

    Attributes:
        image: height and width of the input.
        size: height and width of the filter.
        stride: stride of the filter, in both directions.
        padding: rows of zeros above and below the image, and columns left and right of it.
    """

    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: int
    padding: tuple[tuple[int, int], ...]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Height and width of the output."""
        each = zip(self.image, self.size, self.padding, strict=True)
        return tuple((edge + sum(pad) - size) // self.stride + 1 for edge, size, pad in each)


def convolve(
    x: Float[Array, "n h w c"], W: Float[Array, "size size c o"], stride: int, padding: Padding
) -> Float[Array, "n i j o"]:
    """Convolve images with a filter, as ``lax.conv_general_dilated`` does.

    Args:
        x: images.
        W: weights, of the dtype of the images.
        stride: stride of the filter, in both directions.
        padding: ``same``, ``valid`` or ``circular``, which wraps around.

    Returns:
        images of the output channels.
    """
    image, size = x.shape[1:3], W.shape[:2]
    rule = "VALID" if padding == "valid" else "SAME"
    pads = tuple((low, high) for low, high in lax.padtype_to_pads(image, size, (stride, stride), rule))
    if padding == "circular":
        x, pads = jnp.pad(x, ((0, 0), *pads, (0, 0)), "wrap"), ((0, 0), (0, 0))
    if jax.default_backend() != "cpu":
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, W, (stride, stride), pads, dimension_numbers=layout)
    return _gradient("output", x, W, Window(x.shape[1:3], size, stride, pads))


_primitive = Primitive("convolution_gradient")


def _gradient(part: _Part, a: Any, b: Any, window: Window) -> Any:
    """Return the gradient of the form in one part, given the two others."""
    return _primitive.bind(a, b, part=part, window=window)


def _shape(a: Any, b: Any, *, part: _Part, window: Window) -> Any:
    match part:
        case "output":
            shape = (a.shape[0], *window.outputs, b.shape[3])
        case "input":
            shape = (a.shape[0], *window.image, b.shape[2])
        case "weights":
            shape = (*window.size, a.shape[3], b.shape[3])
    return ShapedArray(shape, a.dtype)


def _transpose(which: Literal[0, 1]) -> Callable[..., Any]:
    """Return the rule for the cotangent of an argument."""

    def rule(cotangent: Any, a: Any, b: Any, *, part: _Part, window: Window) -> Any:
        wanted, other = _ARGUMENTS[part][which], _ARGUMENTS[part][1 - which]
        given = {part: cotangent, other: (b, a)[which]}
        return _primitive.bind(*(given[name] for name in _ARGUMENTS[wanted]), part=wanted, window=window)

    return rule


def _batch(args: Sequence[Any], axes: Sequence[Any], *, part: _Part, window: Window) -> Any:
    """Batching rule: images are concatenated; weights, or their cotangents, are computed in sequence."""
    (a, b) = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(args, axes, strict=True))
    if part != "weights" and axes[1] is None:
        found = _gradient(part, a.reshape(-1, *a.shape[2:]), b, window)
        return found.reshape(*a.shape[:2], *found.shape[1:]), 0
    batched = [x for x, axis in zip((a, b), axes, strict=True) if axis is not None]

    def one(each: list[Any]) -> Any:
        rest = iter(each)
        both = (x if axis is None else next(rest) for x, axis in zip((a, b), axes, strict=True))
        return _primitive.bind(*both, part=part, window=window)

    return lax.map(one, batched), 0


def _computed(a: Array, b: Array, *, part: _Part, window: Window) -> Array:
    """Compute the primitive by XLA's convolution in its fast layout."""
    s = window.stride
    match part:
        case "output":
            return _convolution(a, b, window.padding, stride=s)
        case "input":
            each = zip(window.image, window.size, window.outputs, window.padding, strict=True)
            pads = [(size - 1 - low, edge + low - 1 - (outputs - 1) * s) for edge, size, outputs, (low, _) in each]
            return _convolution(a, jnp.flip(b, (0, 1)).swapaxes(2, 3), pads, dilated_x=s)
        case "weights":
            return _of_weights(a, b, window)


def _of_weights(x: Array, g: Array, window: Window) -> Array:
    """Sum over blocks of examples, each of which is an input channel of a convolution with filter g."""
    s = window.stride
    of_example = max(x[0].size, g[0].size) * x.dtype.itemsize
    blocks, rows = even_chunks(len(x), max(1, _CACHE_BYTES // of_example))
    each = zip(window.image, window.size, window.outputs, window.padding, strict=True)
    pads = [(low, size + (outputs - 1) * s - edge - low) for edge, size, outputs, (low, _) in each]

    def block(x: Array, g: Array) -> Array:
        return _convolution(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), pads, dilated_W=s)

    if blocks == 1:
        return block(x, g).transpose(1, 2, 0, 3)
    x, g = (_padded(array, {0: (0, blocks * rows - len(array))}) for array in (x, g))
    parts = [array.reshape(blocks, rows, *array.shape[1:]) for array in (x, g)]
    zero = jnp.zeros((x.shape[3], *window.size, g.shape[3]), x.dtype)
    return lax.scan(lambda total, part: (total + block(*part), None), zero, parts)[0].transpose(1, 2, 0, 3)


def _convolution(
    x: Array, W: Array, pads: Sequence[tuple[int, int]], *, stride: int = 1, dilated_x: int = 1, dilated_W: int = 1
) -> Array:
    """Call XLA's convolution in its fast layout."""
    outputs, abreast = W.shape[3], 1
    padded = (x.shape[2] - 1) * dilated_x + 1 + sum(pads[1])
    width = (padded - (W.shape[1] - 1) * dilated_W - 1) // stride + 1
    if x.dtype == jnp.float64 and max(W.shape[2:]) <= _FEW:
        if dilated_W == 1 and W.shape[1] < padded // 2:  # copies of a large filter would cost more than they save
            abreast = min(width, _VECTORS // outputs)
        if (_FEW + 1) * outputs * W.shape[1] <= W.shape[2] * _VECTORS // abreast * (
            W.shape[1] + stride * (abreast - 1)
        ):
            more, abreast = (0, _FEW + 1 - W.shape[2]), 1
            x, W = _padded(x, {3: more}), _padded(W, {2: more})
        else:
            W, beyond = _abreast(W, stride, abreast), stride * (-width % abreast)
            pads = [pads[0], (pads[1][0], pads[1][1] + beyond)]
    # The fast code does not support negative padding, which removes rows that no window reaches.
    x = _padded(x, {1 + axis: (min(low, 0), min(high, 0)) for axis, (low, high) in enumerate(pads)})
    pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    strides, of_x, of_W = (stride, stride * abreast), (dilated_x, dilated_x), (dilated_W, dilated_W)
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, W, strides, pads, of_x, of_W, dimension_numbers=layout)[..., : abreast * outputs]
    return y.reshape(*y.shape[:2], -1, outputs)[:, :, :width]


def _abreast(W: Array, stride: int, windows: int) -> Array:
    """Return a filter with as many outputs as are fast: those of neighbouring windows of a row, and zeros."""
    reach = stride * (windows - 1)
    wide = jnp.concatenate([_padded(W, {1: (i, reach - i)}) for i in range(0, reach + 1, stride)], axis=3)
    return _padded(wide, {3: (0, _VECTORS - wide.shape[3])})


def _padded(array: Array, pads: dict[int, tuple[int, int]]) -> Array:
    """Pad some axes with zeros before and after; negative numbers crop."""
    return lax.pad(array, jnp.zeros((), array.dtype), [(*pads.get(axis, (0, 0)), 0) for axis in range(array.ndim)])


_primitive.def_abstract_eval(_shape)
_primitive.def_impl(jax.jit(_computed, static_argnames=("part", "window")))
ad.defbilinear(_primitive, _transpose(0), _transpose(1))
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, mlir.lower_fun(_computed, multiple_results=False))
