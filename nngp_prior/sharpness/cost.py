"""Expected cost of measures, training and landscapes. Does not import JAX."""

from __future__ import annotations

import math
from typing import Any

from nngp_prior.architectures.cost import forward_seconds
from nngp_prior.architectures.weights import network_weights
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.measures.curvature import Eigenvalues, Frobenius, LogDeterminant, SpectralDensity, Trace
from nngp_prior.schemas.measures.gradients import (
    ContrastRegret,
    GradientContrast,
    InDivergence,
    NaturalContrastRegret,
    NaturalGradientContrast,
)
from nngp_prior.schemas.measures.layerwise import RelativeFlatness, ScaledEigenvalue
from nngp_prior.schemas.measures.neighbourhoods import (
    ITERATIONS,
    ASAMSharpness,
    FisherSAMSharpness,
    Keskar,
    PACBayes,
    SAMSharpness,
)
from nngp_prior.schemas.measures.registry import ContrastiveFlatness, Measure
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.training import Training

_FIXED = 2**29  # bytes: process, JAX and compiled functions
_CHUNKS = 2**29  # bytes: copied chunks of examples and their intermediates, gradients of single examples
_VECTORS = 20  # vectors of P numbers: parameters, gradients, products and temporaries
_COMPILING = 2.0  # seconds
_LARGEST, _BOTH_ENDS = 10, 30  # typical number of Lanczos steps until ends of a spectrum have converged
_DOUBLINGS = 30  # of σ in PAC-Bayes bounds, before bisection
_ROUNDS = {"sam": 2}  # gradients per step
_STEP, _UPDATE = 5e-5, 1e-9  # seconds per step, and per step and parameter
_GRADIENT = 4  # cost of a gradient, in forward passes
_NOISE = 6e-8  # seconds per normal random number
_FLOPS = 5e10  # floating-point operations per second of decompositions


def measuring_cost(architecture: Architecture, shape: tuple[int, ...], measure: Measure, dtype: str) -> Cost:
    """Memory and time of one measure.

    Args:
        architecture: architecture of the network.
        shape: shape of the inputs: n, then the shape of one input.
        measure: measure with its options.
        dtype: dtype of the computation.

    Returns:
        peak memory in bytes; time in seconds, intended to be right within a factor of two on two otherwise idle cores
        of 2020s hardware, an upper limit for minimisations (``contrast-regret``, ``natural-contrast-regret``).
    """
    weights = network_weights(architecture, shape[1:])
    P, size = sum(each.parameters for each in weights), 4 if dtype == "float32" else 8
    options: Any = measure
    probes = _probes(options, P)
    steps = min(getattr(options, "max_steps", getattr(options, "steps", 1)), P)
    kept = steps + (2 * probes if getattr(options, "method", "") == "xtrace" else 0)
    layers = len(weights) if getattr(options, "layer", None) == "each" else 1
    gradient = 1e-3 + _GRADIENT * forward_seconds(weights, shape[0], dtype)
    memory = _FIXED + _CHUNKS + size * P * (_VECTORS + kept) + 16 * math.prod(shape)
    decomposition = 0.0
    if isinstance(measure, InDivergence):
        # ∇f at the inputs of F, scaled, and its singular vectors
        N = measure.fisher_examples or (shape[0] if measure.fisher_inputs == "same" else shape[0] // 2)
        memory += 3 * size * N * P
        decomposition = 10 * N * P * min(N, P) / _FLOPS
    gradients = _gradients(measure, P, shape[0], not architecture.piecewise_linear)
    noise = 3 * gradients * P * _NOISE if isinstance(measure, PACBayes) else 0.0  # per loss, a third of a gradient
    return Cost(memory, layers * (_COMPILING + gradients * gradient) + decomposition + noise)


def _gradients(measure: Measure, P: int, n: int, smooth: bool) -> float:
    """Expected number of gradients of the whole data set; a Hessian product counts as two, a loss as a third."""
    match measure:
        case Frobenius() | LogDeterminant() | SpectralDensity():
            return 2.0 * _probes(measure, P) * min(getattr(measure, "steps", 1), P)
        case Trace():
            exact = measure.method == "split" and not (smooth and measure.matrix == "hessian")
            return 1.0 if exact and measure.probes != "basis" else 2.0 * _probes(measure, P)
        case Eigenvalues() | ScaledEigenvalue():
            steps = _BOTH_ENDS if getattr(measure, "smallest", 0) else _LARGEST
            return 2.0 * min(measure.max_steps, P, steps)
        case SAMSharpness() | ASAMSharpness() | FisherSAMSharpness():
            return 3.0 + (measure.steps if measure.method == "ascent" else 0)
        case Keskar():
            iterations = measure.iterations or ITERATIONS[measure.mode]
            runs = measure.starts if measure.mode == "sign-pgd" else 1
            random = measure.subspace is not None or measure.mode == "zhang2021"
            return 2.0 + iterations * runs * (measure.repeats if random else 1)
        case PACBayes():
            return measure.perturbations * (_DOUBLINGS - math.log2(measure.tolerance)) / 3
        case ContrastRegret() | NaturalContrastRegret():
            # Three minimisations per pair of minibatches, with one gradient per step.
            return 3.0 * measure.pairs * measure.max_steps * _minibatch(measure, n)
        case GradientContrast() | NaturalGradientContrast():
            return 2.0 + 2 * measure.pairs * _minibatch(measure, n)
        case ContrastiveFlatness():
            return 2 * _gradients(measure.of, P, n, smooth)
        case RelativeFlatness():
            return 10.0
        case _:
            return 2.0


def _probes(measure: Any, P: int) -> int:
    """Number of probe vectors; 1 for a measure without them."""
    probes = getattr(measure, "probes", 1)
    return P if probes == "basis" else probes


def _minibatch(measure: Any, n: int) -> float:
    """Fraction of the examples in a minibatch."""
    return min(1.0, measure.batch / n)


def training_cost(
    architecture: Architecture, shape: tuple[int, ...], training: Training, networks: int, epochs: int
) -> Cost:
    """Memory and time of training.

    Args:
        architecture: architecture of the networks.
        shape: shape of the examples: their number, then the shape of one input.
        training: training specification.
        networks: number of networks.
        epochs: number of epochs per network.

    Returns:
        peak memory and time.
    """
    weights = network_weights(architecture, shape[1:])
    P = sum(each.parameters for each in weights)
    optimizer: Any = training.optimizer
    rounds = _ROUNDS.get(optimizer.kind, 1) if optimizer.kind != "entropy-sgd" else optimizer.langevin_steps
    steps = -(-shape[0] // training.batch_size)
    # A gradient of each minibatch, then the outputs of all examples after the epoch.
    epoch = (_GRADIENT * rounds + 1) * forward_seconds(weights, shape[0], training.dtype) + steps * rounds * (
        _STEP + P * _UPDATE
    )
    size = 4 if training.dtype == "float32" else 8
    memory = _FIXED + size * networks * P * _VECTORS + 16 * math.prod(shape)
    return Cost(memory, _COMPILING + networks * epochs * epoch)


def landscape_cost(architecture: Architecture, shape: tuple[int, ...], points: int, dtype: str) -> Cost:
    """Memory and time of the loss at a number of points.

    Args:
        architecture: architecture of the network.
        shape: shape of the examples: their number, then the shape of one input.
        points: number of points.
        dtype: dtype of the computation.

    Returns:
        peak memory and time.
    """
    weights = network_weights(architecture, shape[1:])
    memory = _FIXED + _CHUNKS + 8 * _VECTORS * sum(each.parameters for each in weights) + 16 * math.prod(shape)
    return Cost(memory, _COMPILING + points * (1e-3 + forward_seconds(weights, shape[0], dtype)))
