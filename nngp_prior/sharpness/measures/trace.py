r"""Tr H and ‖H‖_F from products with random vectors.

.. math:: \mathrm{Tr} H = E[v^T H v], \qquad ‖H‖_F^2 = E[‖H v‖^2], \qquad E[v v^T] = I

With independent random signs the variance of vᵀHv is 2 (‖H‖_F² - Σ H_ii²) (Hutchinson 1989; Avron and Toledo 2011).
Near a minimum most of H is the generalised Gauss-Newton matrix G, whose trace is known exactly at the cost of a
gradient (:mod:`nngp_prior.sharpness.measures.fisher`), so that only Tr(H - G) is estimated, as with a control variate:

.. math:: \mathrm{Tr} H = \mathrm{Tr} G + E[v^T (H - G) v]

For piecewise linear networks Tr(H - G) = 0, and the trace is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Real
from matfree import stochtrace

from nngp_prior.numerics.chunks import even_chunks
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.measures.curvature import Frobenius, Matrix, Trace
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.curvature.operators import COST, Operator, operator_of
from nngp_prior.sharpness.measures.fisher import traces_of_layers
from nngp_prior.sharpness.measures.names import check_layer, operators
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.networks import high_precision

CHECKS.register(Trace)(check_layer)
CHECKS.register(Frobenius)(check_layer)


def probe_vectors(size: int, probes: int | str, seed: int) -> Iterator[Real[np.ndarray, " size"]]:
    """Yield vectors v with E v vᵀ = I: independent random signs or, without randomness, √P times the unit vectors.

    Args:
        size: P.
        probes: number of vectors, or ``basis``.
        seed: random seed; vector i does not depend on the number of vectors.

    Yields:
        one vector at a time.
    """
    for i in range(number_of(probes, size)):
        if probes == "basis":
            unit = np.zeros(size)
            unit[i] = math.sqrt(size)
            yield unit
        else:
            bits = np.frombuffer(generator(seed, "probe", i).bytes(-(-size // 8)), np.uint8)
            yield 2 * np.unpackbits(bits, count=size).view(np.int8) - 1


def probe_batches(size: int, probes: int | str, seed: int, at_once: int) -> Iterator[list[Real[np.ndarray, " size"]]]:
    """Yield :func:`probe_vectors` in as few batches of equal size as possible; the last one may be smaller.

    Args:
        size: P.
        probes: number of vectors, or ``basis``.
        seed: as for :func:`probe_vectors`.
        at_once: maximal number of vectors in a batch.

    Yields:
        one batch at a time.
    """
    total, vectors = number_of(probes, size), probe_vectors(size, probes, seed)
    batches, in_batch = even_chunks(total, at_once)
    for _ in range(batches):
        yield list(itertools.islice(vectors, in_batch))


def number_of(probes: int | str, size: int) -> int:
    """Number of vectors."""
    return size if isinstance(probes, str) else probes


def mean_and_error(values: list[float], probes: int | str) -> tuple[float, float | None]:
    """Return the mean over probe vectors, and its standard error.

    Args:
        values: one value per vector.
        probes: option of the measure.

    Returns:
        mean and standard error; the error is None for a basis, whose mean is exact.
    """
    mean, error = mean_with_error(values)
    return mean, None if probes == "basis" else error


def quadratics(
    operator: Operator, probes: int | str, seed: int, progress: ProgressCallback = ignore, less: Operator | None = None
) -> list[float]:
    """Compute vᵀ A v of all probe vectors, several at a time if memory remains bounded by a chunk.

    Does not use NumPy's products: waiting BLAS threads slow XLA down.

    Args:
        operator: A.
        probes: number of vectors, or ``basis``.
        seed: random seed of the vectors.
        progress: called for each batch of products.
        less: matrix to be subtracted from A.

    Returns:
        one number per vector.
    """
    values: list[float] = []
    together = 0
    for several in probe_batches(operator.size, probes, seed, operator.vectors_at_once):
        together = together or len(several)
        V = np.stack(several + several[:1] * (together - len(several)))  # constant size, to prevent recompilation
        found = np.asarray(operator.quadratics(V), dtype=np.float64)
        if less is not None:
            found = found - np.asarray(less.quadratics(V), dtype=np.float64)
        values += found[: len(several)].tolist()
        progress(Progress("products", len(values), number_of(probes, operator.size)))
    return values


def _squares(operator: Operator, probes: int | str, seed: int, progress: ProgressCallback) -> list[float]:
    """‖H v‖² of all probe vectors."""
    values = []
    for v in probe_vectors(operator.size, probes, seed):
        with high_precision():
            values.append(float(_square(operator(v))))
        progress(Progress("products", len(values), number_of(probes, operator.size)))
    return values


@jax.jit
def _square(Hv: Array) -> Array:
    Hv = Hv.astype(jnp.float64)
    return Hv @ Hv


@MEASURES.register(Trace)
def trace(risk, specification: Trace, seed: int, progress: ProgressCallback) -> MeasureOutcome:
    """Compute Tr H.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the probe vectors.
        progress: called for each product.

    Returns:
        one quantity per matrix.
    """
    quantities, gradients = [], 0
    probes = specification.probes
    split = specification.method == "split" and probes != "basis"
    exact = _exact_traces(risk, specification.matrix) if split else {}
    remainder = bool(exact) and specification.matrix == "hessian" and not risk.network.piecewise_linear
    linearisation = operator_of(risk, "ggn").linearisation if remainder else None
    for name, operator in operators(risk, specification):
        if specification.method == "xtrace" and not isinstance(probes, str) and probes < operator.size:
            value, stderr = _xtrace(operator, probes // 2, seed)
            gradients += COST * (probes // 2 * 2)
        elif exact and not isinstance(probes, str):
            value = sum(trace for start, trace in exact.items() if operator.start <= start < operator.stop)
            stderr = None
            if remainder:
                ggn = replace(operator, matrix="ggn", linearisation=linearisation)
                rest, stderr = mean_and_error(quadratics(operator, probes, seed, progress, less=ggn), probes)
                value += rest
                gradients += probes * (operator.cost_of_quadratic + ggn.cost_of_quadratic)
        else:
            values = quadratics(operator, probes, seed, progress)
            value, stderr = mean_and_error(values, probes)
            gradients += len(values) * operator.cost_of_quadratic
        quantities.append(Quantity(name.format("trace"), value, stderr))
    return MeasureOutcome(quantities, gradients + bool(exact))


def _exact_traces(risk, matrix: Matrix) -> dict[int, float]:
    """Traces of the layers' blocks of G or of the empirical Fisher information, by start index of the block."""
    traces = traces_of_layers(risk, "empirical" if matrix == "empirical-fisher" else "model")
    return {risk.network.slice_of(layer)[0]: trace for layer, trace in traces.items()}


def _xtrace(operator: Operator, vectors: int, seed: int) -> tuple[float, float]:
    with high_precision():
        estimator = stochtrace.estimator_leave_one_out_mean_and_sem(
            stochtrace.leave_one_out_xtrace(),
            stochtrace.sampler_sphere(jax.numpy.zeros(operator.size, operator.risk.dtype), num=vectors),
        )
        # One product at a time: the memory of several would not be bounded by the chunk.
        estimate = jax.jit(lambda operator, key: estimator(jax.custom_batching.sequential_vmap(operator.product), key))
        key = jax.random.key(int(generator(seed, "xtrace").integers(2**32)))
        value, stderr = estimate(operator, key)
    return float(value), float(stderr)


@MEASURES.register(Frobenius)
def frobenius(risk, specification: Frobenius, seed: int, progress: ProgressCallback) -> MeasureOutcome:
    """Compute ‖H‖_F.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the probe vectors.
        progress: called for each product.

    Returns:
        one quantity per matrix, with the standard error by the delta method.
    """
    quantities, products = [], 0
    for name, operator in operators(risk, specification):
        squares = _squares(operator, specification.probes, seed, progress)
        mean, stderr = mean_and_error(squares, specification.probes)
        norm = math.sqrt(mean)
        # ‖H‖_F = √m, m the mean: δ‖H‖_F = δm / (2 √m)
        error = None if stderr is None else stderr / (2 * norm) if norm > 0 else 0.0
        quantities.append(Quantity(name.format("frobenius"), norm, error))
        products += len(squares)
    return MeasureOutcome(quantities, COST * products)
