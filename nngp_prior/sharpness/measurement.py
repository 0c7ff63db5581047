"""Measure networks, one measure after another, with the cost of each."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import norm as scipy_norm

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import Common, SharedArray, blocks, checked_executor, task_runner
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, ignore, shown, without_cost
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.measures.gradients import ContrastRegret, NaturalContrastRegret
from nngp_prior.schemas.measures.registry import DEFAULT, Measure, measure_of
from nngp_prior.schemas.results.sharpness import Measurement, Report
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.sharpness.cost import measuring_cost
from nngp_prior.sharpness.measures import (  # noqa: F401  (they register their measures)
    contrast_regret,
    contrastive_flatness,
    eigenvalues,
    fisher,
    gradient_coherence,
    gradient_contrast,
    keskar,
    layerwise,
    natural_contrast_regret,
    natural_gradient_contrast,
    pac_bayes,
    relative_flatness,
    sam,
    spectrum,
    trace,
)
from nngp_prior.sharpness.measures.of_classes import check_outputs
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import checked_classes, finite_network
from nngp_prior.sharpness.risk.validation import checked_data
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.versions import versions


@requires_architecture
def measure(
    architecture: Architecture | FromNetwork,
    parameters: Any,
    X: ArrayLike,
    y: ArrayLike,
    measures: Sequence[str | Specification] = DEFAULT,
    *,
    loss: str = "cross-entropy",
    dtype: str = "float64",
    chunk: int | None = None,
    classes: int | None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
) -> Report:
    """Measure how flat the loss is at a network's parameters.

    All arguments are checked before anything is computed.

    Args:
        architecture: specification of the network, or a user's network with one output, or C.
        parameters: as returned by ``finite_network(…).init`` or by training, or pairs of weights and
            biases from the input on.
        X: (n, …) inputs.
        y: (n,) labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        measures: names of measures, or specifications with options.
        loss: ``cross-entropy`` (nats, of one logit, or of the softmax of C) or ``mse``, (f - y)², or the sum of it over
            C outputs and the one-hot label.
        dtype: ``float64`` or ``float32``.
        chunk: number of examples processed at a time. Default: as many as fit into about 128 MiB.
        classes: number of outputs C, at least 2, for labels 0 … C-1. Default: one output, for labels ±1.
        seed: random seed of all random vectors; a quantity does not depend on which others are measured.
        progress: True for a progress bar, or a callback, called with the expected cost and the state of each measure.

    Returns:
        the quantities, in the order of the measures.
    """
    specifications = _specifications(measures)
    risk = EmpiricalRisk.of(architecture, parameters, X, y, loss=loss, dtype=dtype, chunk=chunk, classes=classes)
    checked(risk, specifications)
    with shown(progress, "sharpness", rows=True) as tell:
        return measure_risk(risk, specifications, checked_seed(seed), tell)


@requires_architecture
def measure_networks(
    architecture: Architecture | FromNetwork,
    networks: Trained | Sequence[Any],
    X: ArrayLike,
    y: ArrayLike,
    measures: Sequence[str | Specification] = DEFAULT,
    *,
    loss: str = "cross-entropy",
    dtype: str = "float64",
    chunk: int | None = None,
    classes: int | None = None,
    seed: SeedLike = 0,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> list[Report]:
    """Measure how flat the loss is at the parameters of several networks, each as by :func:`measure`.

    All arguments are checked before anything is computed.

    Args:
        architecture: specification of the networks, or a user's network with one output, or C.
        networks: trained networks; or a list with the parameters of each, as for :func:`measure`.
        X: (n, …) inputs.
        y: (n,) labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        measures: as for :func:`measure`.
        loss: as for :func:`measure`.
        dtype: as for :func:`measure`.
        chunk: as for :func:`measure`.
        classes: as for :func:`measure`. Default: that of trained networks.
        seed: as for :func:`measure`, for all networks.
        executor: executor whose workers measure, with the same result; see :func:`nngp_prior.log_probabilities`.
            Default: this process.
        progress: True for a progress bar, or a callback, called with the expected cost and after each network.

    Returns:
        a report per network.

    Raises:
        InvalidInput: if an argument is invalid, such as parameters that do not fit.
        ResourceLimit: if a worker of the executor died.
    """
    if executor is not None:
        checked_executor(executor)
    if isinstance(networks, Trained):
        classes = networks.classes if classes is None else classes
        networks = [networks.network(i) for i in range(len(networks))]
    if not isinstance(networks, list | tuple) or not networks:
        problem = "are none" if isinstance(networks, list | tuple) else f"got {type(networks).__name__}"
        raise InvalidInput("networks", problem, "Pass what train returned, or a list with the parameters of each.")
    specifications = _specifications(measures)
    classes = checked_classes(classes)
    inputs, labels = checked_data(architecture, X, y, classes=classes)
    options = {"loss": loss, "dtype": dtype, "chunk": chunk, "classes": classes}
    risk = EmpiricalRisk.of(architecture, networks[0], inputs, labels, **options)
    thetas = np.stack([_flat(risk, parameters, i) for i, parameters in enumerate(networks)])
    checked(risk, specifications)
    seed, total = checked_seed(seed), len(networks)
    each = _cost(risk, specifications)
    found: dict[int, Report] = {}
    with shown(progress, "sharpness", rows=True) as tell:
        tell(Progress("networks", 0, total, None if each is None else Cost(each.bytes, total * each.seconds)))
        if executor is None:
            reports = ((i, measure_risk(risk.at(theta), specifications, seed)) for i, theta in enumerate(thetas))
        else:
            parts = blocks(total, math.inf if each is None else each.seconds)
            common = inputs, labels, thetas, architecture, options, specifications, seed
            reports = _measure_on(executor, parts, *common)
        for i, report in reports:
            found[i] = report
            tell(Progress("networks", len(found), total))
    return [found[i] for i in range(total)]


def _flat(risk: EmpiricalRisk, parameters: Any, i: int) -> np.ndarray:
    try:
        return risk.network.flatten(parameters, str(risk.dtype))
    except InvalidInput as error:
        raise InvalidInput(f"networks[{i}]", error.problem, error.remedy) from None


def _measure_on(
    executor: Executor,
    parts: Sequence[range],
    X: np.ndarray,
    y: np.ndarray,
    thetas: np.ndarray,
    architecture: Architecture | FromNetwork,
    *common: Any,
) -> Iterator[tuple[int, Report]]:
    """Yield reports with their indices, from tasks of an executor."""
    with task_runner(executor) as runner:
        arrays = runner.share(X), runner.share(y), runner.share(thetas)
        tasks = ((*arrays, runner.common(architecture), *common, part) for part in parts)
        for place, reports in runner.run(_measure_there, tasks):
            yield from zip(parts[place], reports, strict=True)


def _measure_there(
    X: SharedArray,
    y: SharedArray,
    thetas: SharedArray,
    architecture: Common[Architecture | FromNetwork],
    options: dict[str, Any],
    specifications: Sequence[Measure],
    seed: int,
    part: range,
) -> list[Report]:
    """Measure some networks in a worker."""
    own: Any = architecture.value
    risk = _risk_there(X, y, thetas, own, **options)
    return [measure_risk(risk.at(theta), specifications, seed) for theta in thetas.rows(part)]


@functools.lru_cache(maxsize=1)
def _risk_there(
    X: SharedArray,
    y: SharedArray,
    thetas: SharedArray,
    architecture: Architecture | FromNetwork,
    loss: str,
    dtype: str,
    chunk: int | None,
    classes: int | None,
) -> EmpiricalRisk:
    inputs = X.load()
    parameters = finite_network(architecture, inputs.shape[1:], classes).unflatten(thetas.rows(range(1))[0])
    options = {"loss": loss, "dtype": dtype, "chunk": chunk, "classes": classes}
    return EmpiricalRisk.of(architecture, parameters, inputs, y.load(), **options)


def checked(risk: EmpiricalRisk, specifications: Sequence[Measure]) -> None:
    """Raise an error for measures that do not apply to a risk.

    Args:
        risk: network, loss and data.
        specifications: specifications of the measures.
    """
    for specification in specifications:
        check_outputs(risk, specification)
        if type(specification) in CHECKS:
            CHECKS[specification](risk, specification)


def measure_risk(
    risk: EmpiricalRisk, specifications: Sequence[Measure], seed: int, progress: ProgressCallback = ignore
) -> Report:
    """Evaluate checked measures; see :func:`measure`.

    Args:
        risk: network, loss and data.
        specifications: specifications of the measures.
        seed: random seed of all random vectors.
        progress: called with the state of each measure.

    Returns:
        the quantities.
    """
    at_most = any(isinstance(each, ContrastRegret | NaturalContrastRegret) for each in specifications)
    progress(Progress("measures", 0, len(specifications), _cost(risk, specifications), at_most))
    tell = without_cost(progress)
    value, gradient = risk.value_and_gradient(risk.theta)
    norm = float(scipy_norm(np.asarray(gradient), check_finite=False))
    measurements = []
    for done, specification in enumerate(specifications, start=1):
        if math.isfinite(float(value)) and math.isfinite(norm):
            measurements += _carried_out(risk, specification, seed, tell)
        else:
            which = "the loss" if not math.isfinite(float(value)) else "the gradient"
            message = f"{which} is not finite at these parameters"
            missing = Quantity(specification.kind, math.nan, None, "not-finite", message)
            measurements.append(_measurement(specification, missing, 0.0, 0.0))
        progress(Progress("measures", done, len(specifications)))
    return Report(
        measurements=tuple(measurements),
        loss=risk.loss_name,
        training_loss=float(value),
        training_error=float(risk.error(risk.theta)),
        gradient_norm=norm,
        n=risk.n,
        parameters=risk.size,
        dtype=str(risk.dtype),  # pyright: ignore[reportArgumentType]
        seed=seed,
        versions=versions(),
    )


def _cost(risk: EmpiricalRisk, specifications: Sequence[Measure]) -> Cost | None:
    """Expected cost of all measures; None if the network's layers are unknown."""
    own = risk.network.architecture
    if isinstance(own, FromNetwork):
        return None
    costs = [measuring_cost(own, risk.X.shape, each, str(risk.dtype)) for each in specifications]
    return Cost(max(cost.bytes for cost in costs), sum(cost.seconds for cost in costs))


def _specifications(measures: Sequence[str | Specification]) -> list[Measure]:
    if isinstance(measures, str | Specification):
        measures = [measures]
    if measures is not None and not isinstance(measures, Sequence):
        raise InvalidInput("measures", f"got {measures!r}", "Pass names of measures, or their specifications.")
    if not measures:
        raise InvalidInput("measures", "are none", "Name at least one.")
    found = []
    for asked in measures:
        if isinstance(asked, str):
            found.append(measure_of(asked))
        elif isinstance(asked, Specification) and type(asked) in MEASURES:
            found.append(asked)  # pyright: ignore[reportArgumentType]
        else:
            raise InvalidInput("measures", f"got {asked!r}", "Pass names of measures, or their specifications.")
    return found


def _carried_out(
    risk: EmpiricalRisk, specification: Measure, seed: int, progress: ProgressCallback
) -> list[Measurement]:
    own_seed = int(generator(seed, specification.kind).integers(2**63))
    began = time.perf_counter()
    outcome = MEASURES[specification](risk, specification, own_seed, progress)
    seconds = time.perf_counter() - began
    return [_measurement(specification, each, outcome.gradients, seconds) for each in outcome.quantities]


def _measurement(specification: Measure, quantity: Quantity, gradients: int | float, seconds: float) -> Measurement:
    status, message = quantity.status, quantity.message
    if status == "ok" and not math.isfinite(quantity.value):
        status, message = "not-finite", "the figure is not finite; try dtype='float64', or other options"
    return Measurement(
        measure=specification.kind,
        name=quantity.name,
        value=quantity.value,
        stderr=quantity.stderr,
        status=status,
        message=message,
        options=specification.model_dump(mode="json", exclude={"kind"}),
        diagnostics=quantity.diagnostics,
        gradients=gradients,
        seconds=seconds,
    )
