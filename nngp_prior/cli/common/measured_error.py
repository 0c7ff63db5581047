"""Measured counterpart of the bounds: error of functions drawn from the posterior, at unseen inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nngp_prior.cli.common import output
from nngp_prior.cli.common.parsing import Given, parse_dataset
from nngp_prior.errors import InvalidInput, InvalidLabels, ResourceLimit
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import SMC, Estimator, classes_of
from nngp_prior.schemas.statistics import mean_with_error

_TEST = 400  # largest number of test inputs; standard error of the mean below 0.025


class MeasuredError(NamedTuple):
    """Gibbs error at test inputs.

    Attributes:
        value: mean over the test inputs of P(wrong label | S).
        stderr: standard error of the computation and of the choice of the test inputs together.
        test: number of test inputs.
    """

    value: float
    stderr: float
    test: int


def measured_errors(
    given: Given,
    architecture: Architecture,
    estimator: Estimator,
    clean: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[int],
    seed: int,
    bars: output.ProgressBars,
) -> dict[int, MeasuredError]:
    """Compute errors on clean labels, at inputs of the same data set after the training inputs.

    Args:
        given: source of inputs and labels.
        architecture: architecture of the network.
        estimator: estimator of the bounds; its noise and jitter are those of the prior.
        clean: labels of the training inputs before corruption.
        labels: labels of the training inputs after corruption.
        sizes: numbers of training inputs.
        seed: random seed.
        bars: progress bars.

    Returns:
        errors by number of training inputs, for labels with a posterior. Empty if labels or inputs are not from a data
        set, if there are more than two classes, if labels depend on the number of inputs, or if no input is left.
    """
    from nngp_prior.data import label
    from nngp_prior.kernels import kernel
    from nngp_prior.prior.posterior import Posterior
    from nngp_prior.prior.request_context import inputs_of

    m = max(sizes)
    if not given.fields or given.labels_file is not None or classes_of(estimator) is not None:
        return {}
    dataset, (labelling,) = given.specified()
    assert dataset is not None
    if getattr(dataset, "preprocessing", "none") == "standardise":  # uses all inputs, the test inputs included
        return {}
    data = _more(dataset.model_dump(), m + _TEST)
    y = label(labelling, data.classes, data.known_classes)
    if len(y) == m or not np.array_equal(y[:m], clean[:m]):
        return {}
    K = kernel(
        architecture, inputs_of(data, architecture), progress=bars.bar(f"kernel with {len(y) - m:,} test inputs")
    )
    fields = set(SMC.model_fields) - {"kind", "classes", "target_stderr"}
    parameters = SMC(**estimator.model_dump(include=fields, exclude_unset=True))
    found = {}
    for size in sizes:
        chosen = np.r_[:size, m : len(y)]
        try:
            posterior = Posterior(
                K[np.ix_(chosen, chosen)], labels[:size], parameters, seed, bars.bar(f"error, m = {size:,}")
            )
        except InvalidLabels:  # labels of probability 0; the bound reports them
            continue
        except ResourceLimit as error:  # the bounds are useful without it
            output.note(f"no error is measured at m = {size:,}: {error}")
            break
        error, probability = posterior.gibbs_error(y[m:]), posterior.predictive().value
        _, of_inputs = mean_with_error(np.where(y[m:] > 0, 1 - probability, probability))
        found[size] = MeasuredError(error.value, math.hypot(error.stderr, of_inputs), len(y) - m)
    return found


def _more(fields: dict[str, Any], n: int) -> Any:
    """Return a data set with n or all of its inputs in random order; the first ones are the same for any n."""
    from nngp_prior.data import load

    try:
        return load(parse_dataset(fields | {"n": n}))
    except InvalidInput:
        available = len(load(parse_dataset(fields | {"n": None})).classes)
        return load(parse_dataset(fields | {"n": available}))
