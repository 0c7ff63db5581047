"""Finite networks with one output, and the position of each array in the flat parameter vector."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import SequenceKey, keystr, tree_leaves_with_path
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, Network, network
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.arrays import plain_array
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.text import number_of
from nngp_prior.schemas.weights import layout_remedy, named_weights

MOST_CLASSES = 10_000
_PLURAL = {"weight": "weights", "bias": "biases"}
Parameters = Any  # nested tuples, lists and dictionaries of arrays


def high_precision() -> AbstractContextManager[Any]:
    """Enable float64 in JAX and full precision of float32 products, in the calling thread only."""
    stack = ExitStack()
    stack.enter_context(jax.enable_x64(True))
    stack.enter_context(jax.default_matmul_precision("highest"))
    return stack


@dataclass(frozen=True)
class ParameterBlock:
    """One array of parameters.

    Attributes:
        layer: name of the layer: ``dense 1``, ``convolution 3``, numbered from the input on. In a user's network, the
            path of the array among the parameters without the last key.
        role: ``weight`` or ``bias``. In a user's network arrays with fewer than two axes longer than 1 are biases.
        shape: shape of the array.
        start: start index in the flat vector.
    """

    layer: str
    role: Literal["weight", "bias"]
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """End index in the flat vector."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class FiniteNetwork:
    """A network of finite width for inputs of one shape. Equal specifications give the same object.

    Attributes:
        architecture: a specification, or a user's network.
        input_shape: shape of one input.
        blocks: all arrays of parameters, in the order of the flat vector.
        structure: tree structure of the parameters in JAX.
        forward: (parameters, X) -> outputs, (n,) or with classes (n, C), JAX-traceable; :meth:`apply` is the compiled
            version.
        classes: number of outputs C for labels 0 … C-1; None for one output and labels ±1.
    """

    architecture: Architecture | FromNetwork
    input_shape: tuple[int, ...]
    blocks: tuple[ParameterBlock, ...]
    structure: Any
    forward: Callable[..., Float[Array, "n ..."]]
    classes: int | None = None

    def __repr__(self) -> str:
        outputs = "" if self.classes is None else f", {self.classes} outputs"
        return f"<FiniteNetwork {number_of(self.size, 'parameter')}, inputs {self.input_shape}{outputs}>"

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return sum(block.stop - block.start for block in self.blocks)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, from the input on."""
        return tuple(dict.fromkeys(block.layer for block in self.blocks))

    @property
    def piecewise_linear(self) -> bool:
        """True if f is affine in the parameters of each single layer, except at kinks; False for a user's network."""
        return not isinstance(self.architecture, FromNetwork) and self.architecture.piecewise_linear

    def slice_of(self, layer: str) -> tuple[int, int]:
        """Return the range of a layer's weights and biases in the flat vector.

        Args:
            layer: name of the layer.

        Returns:
            start and end index.

        Raises:
            InvalidInput: if there is no such layer.
        """
        parts = [block for block in self.blocks if block.layer == layer]
        if not parts:
            raise InvalidInput("layer", f"got {layer!r}", f"Choose one of {', '.join(self.layers)}.")
        return parts[0].start, parts[-1].stop

    def init(self, seed: int) -> Parameters:
        """Draw parameters from the prior whose kernel at infinite width is the architecture's.

        Args:
            seed: random seed; the parameters are those of ``architectures.network(…).init`` with the key of this seed.

        Returns:
            arrays in float64.
        """
        with high_precision():
            return jax.tree.map(np.asarray, _compiled_init(self)(jax.random.key(seed)))

    def apply(
        self, parameters: Parameters, X: Float[Array, "n ..."] | Float[np.ndarray, "n ..."]
    ) -> Float[Array, "n ..."]:
        """Return the outputs f(x).

        Args:
            parameters: as returned by :meth:`init`.
            X: inputs, (n, *input_shape).

        Returns:
            one output per input, or C.
        """
        with high_precision():
            return _compiled_forward(self)(parameters, X)

    def flatten(self, parameters: Parameters, dtype: str = "float64") -> Float[np.ndarray, " P"]:
        """Check parameters and flatten them to one vector.

        Args:
            parameters: as returned by :meth:`init`; for a specification also pairs of weights and biases from the input
                on, the format of the service.
            dtype: dtype of the vector.

        Returns:
            the vector; ``blocks`` has the position of each array.

        Raises:
            InvalidInput: if structure, dtype or shape differ, or a number is not finite.
        """
        if jax.tree.structure(parameters) != self.structure:
            parameters = self._from_pairs(parameters)
        leaves = tree_leaves_with_path(parameters)
        flat = []
        for (path, leaf), block in zip(leaves, self.blocks, strict=True):
            array, where = plain_array(leaf), f"{_PLURAL[block.role]} of {block.layer}"
            if array.dtype.kind not in "biuf" and array.dtype != jnp.bfloat16:
                problem = f"the {where} (parameters{keystr(path)}) are of type {array.dtype}"
                raise InvalidInput("parameters", problem, "Pass real numbers.")
            if block.role == "bias" and array.shape == block.shape[-1:]:
                array = array.reshape(block.shape)
            if array.shape != block.shape:
                problem = f"the {where} (parameters{keystr(path)}) have shape {array.shape}, not {block.shape}"
                remedy = layout_remedy("W", array.shape, block.shape)
                raise InvalidInput("parameters", problem, remedy or "Pass those of this architecture and these inputs.")
            if not np.isfinite(array).all():
                problem = f"the {where} (parameters{keystr(path)}) hold {array[~np.isfinite(array)][0]}"
                raise InvalidInput("parameters", problem, "The network has diverged: train it with smaller steps.")
            flat.append(array.ravel())
        return np.concatenate(flat).astype(dtype)

    def _from_pairs(self, parameters: Any) -> Parameters:
        """Convert pairs of weights and biases to the structure of :meth:`init`."""
        if isinstance(self.architecture, FromNetwork):
            problem = f"have the structure {jax.tree.structure(parameters)}, not {self.structure}"
            raise InvalidInput("parameters", problem, "Pass what init gave, or train returned, for this network.")
        found, names = named_weights(parameters), [f"{block.layer}/{block.role}" for block in self.blocks]
        if list(found) != names:
            problem = f"have {', '.join(found)}, where the network has {', '.join(names)}"
            raise InvalidInput("parameters", problem, "Pass those of this architecture, layers from the input on.")
        return jax.tree.unflatten(self.structure, list(found.values()))

    def unflatten(self, theta: Float[Array, " P"] | Float[np.ndarray, " P"]) -> Parameters:
        """Convert a flat vector to parameters (JAX-traceable).

        Args:
            theta: the vector.

        Returns:
            arrays in the structure of :meth:`init`.
        """
        leaves = [theta[block.start : block.stop].reshape(block.shape) for block in self.blocks]
        return jax.tree.unflatten(self.structure, leaves)


def finite_network(
    architecture: Architecture | FromNetwork, input_shape: tuple[int, ...], classes: int | None = None
) -> FiniteNetwork:
    """Return the finite network of an architecture.

    With ``classes=C`` the network has C outputs. At infinite width they are independent draws from the prior of the one
    output: their covariance at n inputs is K ⊗ I.

    Args:
        architecture: a specification, or a user's network with one output, or C.
        input_shape: shape of one input.
        classes: number of outputs C, at least 2. Default: one output.

    Returns:
        the network.

    Raises:
        InvalidInput: if ``classes`` is not a number of classes, images are smaller than a window without padding, or a
            user's network has another number of outputs or cannot be traced by JAX.
    """
    # pyright does not know that frozen models have a hash.
    return _finite_network(architecture, tuple(input_shape), checked_classes(classes))  # pyright: ignore[reportArgumentType]


def checked_classes(classes: int | None) -> int | None:
    """Validate a number of classes.

    Args:
        classes: number of classes C, or None.

    Returns:
        the same.

    Raises:
        InvalidInput: if it is not an integer of at least 2.
    """
    if classes is not None and (
        isinstance(classes, bool) or not isinstance(classes, int | np.integer) or not 2 <= classes <= MOST_CLASSES
    ):
        remedy = f"Pass the number of classes C, 2 to {MOST_CLASSES}, or nothing for labels -1 and +1."
        raise InvalidInput("classes", f"got {classes!r}", remedy)
    return None if classes is None else int(classes)


@functools.lru_cache(maxsize=32)  # the same network must give the same function objects, for JAX to compile them once
def _finite_network(
    architecture: Architecture | FromNetwork, input_shape: tuple[int, ...], classes: int | None
) -> FiniteNetwork:
    own = isinstance(architecture, FromNetwork)
    functions = functions_of_outputs(architecture, classes)

    def forward(parameters: Parameters, X: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        f = functions.apply(parameters, X)
        return f.reshape(len(X)) if classes is None else f

    with high_precision():
        try:
            key = jax.random.key(0)
            shapes = jax.eval_shape(lambda: functions.init(key, (1, *input_shape))[1])
            outputs = jax.eval_shape(functions.apply, shapes, jax.ShapeDtypeStruct((3, *input_shape), jnp.float64))
        except jax.errors.JAXTypeError as error:
            problem = f"cannot be traced by JAX ({str(error).splitlines()[0]})"
            remedy = "Write init and apply with jax.numpy, without branches on values."
            raise InvalidInput("architecture", problem, remedy) from None
    if outputs.shape not in (((3,), (3, 1)) if classes is None else ((3, classes),)):
        problem = f"gives outputs of shape {outputs.shape} for 3 inputs"
        remedy = "Give it one output, or pass classes=C with as many outputs as classes."
        if classes is not None:
            remedy = f"With classes={classes}, give it {classes} outputs."
        raise InvalidInput("architecture", problem, remedy)
    leaves, structure = tree_leaves_with_path(shapes), jax.tree.structure(shapes)
    if not leaves:
        raise InvalidInput("architecture", "has no parameters", "Give the network at least one layer with weights.")
    blocks = _blocks([(path, leaf.shape) for path, leaf in leaves], own)
    return FiniteNetwork(architecture, input_shape, blocks, structure, forward, classes)


def functions_of_outputs(architecture: Architecture | FromNetwork, classes: int | None) -> FromNetwork | Network:
    """Return the initialiser and the forward pass of an architecture.

    Args:
        architecture: a specification, or a user's network.
        classes: number of outputs; None for one.

    Returns:
        an object with ``init`` and ``apply``.
    """
    return architecture if isinstance(architecture, FromNetwork) else network(architecture, classes or 1)


def _blocks(leaves: list[tuple[Any, tuple[int, ...]]], own: bool) -> tuple[ParameterBlock, ...]:
    blocks: list[ParameterBlock] = []
    numbers: dict[Any, int] = {}  # numbers of layers, which are pairs of weights and biases
    start = 0
    for path, shape in leaves:
        if own:
            layer, is_weight = keystr(path[:-1]), sum(length > 1 for length in shape) > 1
            apart = layer != (blocks[-1].layer if blocks else None) and layer in {block.layer for block in blocks}
            layer = keystr(path) if apart or not layer else layer
        else:
            number = numbers.setdefault(path[:-1], len(numbers) + 1)
            is_weight = path[-1] == SequenceKey(0)
            if is_weight:
                kind = "dense" if len(shape) == 2 else "convolution"
                layer = f"{kind} {number}"
            else:
                layer = blocks[-1].layer
        blocks.append(ParameterBlock(layer, "weight" if is_weight else "bias", shape, start))
        start = blocks[-1].stop
    return tuple(blocks)


@functools.lru_cache(maxsize=32)
def _compiled_init(finite: FiniteNetwork) -> Callable[..., Any]:
    functions = functions_of_outputs(finite.architecture, finite.classes)
    # Compiling a random number generator takes longer than running it, hence fewer optimisations.
    return jax.jit(
        lambda key: functions.init(key, (1, *finite.input_shape))[1],
        compiler_options={"xla_backend_optimization_level": 1},
    )


@functools.lru_cache(maxsize=32)
def _compiled_forward(finite: FiniteNetwork) -> Callable[..., Any]:
    return jax.jit(finite.forward)
