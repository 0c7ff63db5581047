"""What measures take, before they are taken; without JAX."""

from __future__ import annotations

import math
from typing import Any

from nngp_prior.architectures import layers_of
from nngp_prior.architectures.weights import Weights, weights_of
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.gradients import InDivergence
from nngp_prior.schemas.sharpness import Measure
from nngp_prior.schemas.training import Training

_FIXED = 2**29  # the process, JAX and what it has compiled
_CHUNKS = 2**29  # examples that are copied or worked on, and gradients of single examples
_VECTORS = 20  # of P numbers: parameters, gradients, products and what is made of them
_COMPILING = 5.0  # seconds
_GRADIENTS = 50.0  # of a measure that does not say how many
_ROUNDS = {"sam": 2}  # gradients of a step
_STEP, _UPDATE = 5e-5, 1e-9  # seconds of a step, and per parameter
_FLOPS = 1e10  # a second, of small products, on two cores


def measuring_cost(architecture: Architecture, shape: tuple[int, ...], measure: Measure, dtype: str) -> Cost:
    """Memory and time of one measure.

    Args:
        architecture: of the network.
        shape: of the inputs, n and that of one of them.
        measure: with its options.
        dtype: of what is computed.

    Returns:
        bytes at peak; seconds are right to a factor of about ten.
    """
    weights = weights_of(layers_of(architecture), shape[1:])[0]
    P, size = sum(each.parameters for each in weights), 4 if dtype == "float32" else 8
    options: Any = measure
    probes = getattr(options, "probes", 1)
    probes = P if probes == "basis" else probes
    steps = min(getattr(options, "max_steps", getattr(options, "steps", 1)), P)
    kept = steps + (2 * probes if getattr(options, "method", "") == "xtrace" else 0)
    layers = len(weights) if getattr(options, "layer", None) == "each" else 1
    products = layers * probes * steps
    gradients = _GRADIENTS if products == 1 else 2.0 * products
    gradient = 1e-3 + 3 * _forward(weights, shape[0])
    memory = _FIXED + _CHUNKS + size * P * (_VECTORS + kept) + 16 * math.prod(shape)
    decomposition = 0.0
    if isinstance(measure, InDivergence):
        # ∇f at the inputs for F, scaled, and its singular vectors
        N = measure.fisher_examples or (shape[0] if measure.fisher_inputs == "same" else shape[0] // 2)
        memory += 3 * size * N * P
        decomposition = 10 * N * P * min(N, P) / _FLOPS
    return Cost(memory, layers * _COMPILING + gradients * gradient + decomposition)


def training_cost(
    architecture: Architecture, shape: tuple[int, ...], training: Training, networks: int, epochs: int
) -> Cost:
    """Memory and time of training.

    Args:
        architecture: of the networks.
        shape: of the examples, their number and the shape of one input.
        training: with its options.
        networks: number of networks.
        epochs: number of epochs of each.

    Returns:
        peak memory and time.
    """
    weights = weights_of(layers_of(architecture), shape[1:])[0]
    P = sum(each.parameters for each in weights)
    optimizer: Any = training.optimizer
    rounds = _ROUNDS.get(optimizer.kind, 1) if optimizer.kind != "entropy-sgd" else optimizer.langevin_steps
    steps = -(-shape[0] // training.batch_size)
    # A gradient on each minibatch, and the outputs of all examples after the epoch.
    epoch = (3 * rounds + 1) * _forward(weights, shape[0]) + steps * rounds * (_STEP + P * _UPDATE)
    size = 4 if training.dtype == "float32" else 8
    memory = _FIXED + size * networks * P * _VECTORS + 16 * math.prod(shape)
    return Cost(memory, _COMPILING + networks * epochs * epoch)


def landscape_cost(architecture: Architecture, shape: tuple[int, ...], points: int) -> Cost:
    """Memory and time of the loss at some points.

    Args:
        architecture: of the network.
        shape: of the examples, their number and the shape of one input.
        points: number of points.

    Returns:
        peak memory and time.
    """
    weights = weights_of(layers_of(architecture), shape[1:])[0]
    memory = _FIXED + _CHUNKS + 8 * _VECTORS * sum(each.parameters for each in weights) + 16 * math.prod(shape)
    return Cost(memory, _COMPILING + points * (1e-3 + _forward(weights, shape[0])))


def _forward(weights: list[Weights], n: int) -> float:
    """Seconds of a forward pass: each product is a multiplication and an addition."""
    return 2 * n * sum(each.multiplications for each in weights) / _FLOPS
