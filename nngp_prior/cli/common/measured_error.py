"""What bounds are about, measured: the error of functions drawn from the posterior, at inputs that it has not seen."""

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

_TEST = 400  # test inputs at most: a standard error of the mean below 0.025


class MeasuredError(NamedTuple):
    """The Gibbs error at test inputs.

    Attributes:
        value: mean over the test inputs of P(another label | S).
        stderr: of the computation and of the draw of the test inputs together.
        test: how many test inputs.
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
    """Errors on clean labels, at inputs of the same data set that come after the training inputs.

    Args:
        given: where inputs and labels come from.
        architecture: of the network.
        estimator: of the bounds, whose noise and jitter are those of the prior.
        clean: labels of the training inputs before their corruption.
        labels: after it.
        sizes: numbers of training inputs.
        seed: of all random numbers.
        bars: draw the progress.

    Returns:
        of each number of training inputs whose labels have a posterior; none where labels or inputs are not those of a
        data set, are more than two classes, or change with the number of inputs, or no input is left.
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
    if getattr(dataset, "preprocessing", "none") == "standardise":  # by all inputs, those to be tested too
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
        except InvalidLabels:  # without probability; the bound says so
            continue
        except ResourceLimit as error:  # the bounds are worth having without it
            output.note(f"no error is measured at m = {size:,}: {error}")
            break
        error, probability = posterior.gibbs_error(y[m:]), posterior.predictive().value
        spread = float(np.where(y[m:] > 0, 1 - probability, probability).std(ddof=1)) if len(y) > m + 1 else math.inf
        stderr = math.hypot(error.stderr, spread / math.sqrt(len(y) - m))
        found[size] = MeasuredError(error.value, stderr, len(y) - m)
    return found


def _more(fields: dict[str, Any], n: int) -> Any:
    """So many inputs of a data set in random order, or all of them: the first ones are the same for any n."""
    from nngp_prior.data import load

    try:
        return load(parse_dataset(fields | {"n": n}))
    except InvalidInput:
        available = len(load(parse_dataset(fields | {"n": None})).classes)
        return load(parse_dataset(fields | {"n": available}))
