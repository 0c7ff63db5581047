"""Execution of requests for a choice among architectures, one row per candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nngp_prior.architectures.inputs import check_inputs, fitting_inputs
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.prior.request_context import RequestContext, about, inputs_of
from nngp_prior.prior.weight_grid import number_of_choices
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import SelectionRequest
from nngp_prior.schemas.results.base import refused_row
from nngp_prior.schemas.results.selection import PER_ARCHITECTURE, candidate_row
from nngp_prior.versions import versions


def count_candidates(request: SelectionRequest, context: RequestContext) -> int:
    """Check that a request can be executed and count its results.

    Args:
        request: the request.
        context: data sets and uploaded arrays.

    Returns:
        number of results: two per architecture.

    Raises:
        InvalidInput: if it cannot be executed; :class:`InvalidLabels` if the labels are invalid.
    """
    data = context.data(request.dataset)
    n = len(data.X)
    if request.train is not None and request.train >= n:
        problem = f"got {request.train:,} where there are {n:,} inputs"
        raise InvalidInput("train", problem, "Leave some for the test, or leave it out to train on all.")
    for architecture in request.family:
        fitting_inputs("dataset", inputs_of(data, architecture), architecture)
    _labels(request, context)
    return PER_ARCHITECTURE * len(request.family)


def selection_facts(request: SelectionRequest, context: RequestContext) -> dict[str, Any]:
    """Return the metadata common to all results of a request.

    Args:
        request: the request.
        context: data sets.

    Returns:
        the number of inputs, the number of choices, the data set, the labelling and versions.
    """
    return {
        "n": len(context.data(request.dataset).X),
        "choices": number_of_choices(len(request.family), (request.weight_std, request.bias_std)),
        **about(request.dataset),
        "labelling": request.labelling.model_dump(mode="json"),
        "versions": versions(),
    }


def candidate_rows(
    request: SelectionRequest, context: RequestContext, rows: Sequence[int], progress: ProgressCallback
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield candidates as they finish, as :func:`nngp_prior.select_architecture` computes them.

    Args:
        request: the request.
        context: data sets and uploaded arrays.
        rows: indices: 2 i for architecture i as given, 2 i + 1 for the optimised one.
        progress: progress callback.

    Yields:
        index and result. If the training labels have probability 0, the status is ``invalid-labels`` where the library
        would raise an error: of optimised candidates, and with test inputs of all.
    """
    from nngp_prior.prior.selection import candidate_of, maximum  # loads JAX, which services do not need to plan

    data, y = context.data(request.dataset), _labels(request, context)
    m = request.train or len(y)
    for row in rows:
        architecture, optimised = request.family[row // PER_ARCHITECTURE], bool(row % PER_ARCHITECTURE)
        X = check_inputs("dataset", inputs_of(data, architecture), architecture)
        test = None if m == len(y) else (X[m:], y[m:])
        try:
            if optimised:
                box = (request.weight_std, request.bias_std)
                architecture = maximum(architecture, X[:m], y[:m], request.estimator, box, progress)
            found = candidate_of(architecture, optimised, X[:m], y[:m], test, request.estimator, request.seed, progress)
        except InvalidLabels as error:
            yield row, refused_row(row, "invalid-labels", f"{error.problem}. {error.remedy}")
        else:
            yield row, candidate_row(row, found)


def _labels(request: SelectionRequest, context: RequestContext) -> np.ndarray:
    """Return the labels -1.0 and +1.0 of all inputs."""
    places = context.places((request.labelling,))
    if len(places) != 1:
        raise InvalidInput("labelling", f"the array has {len(places)} rows", "Upload one row of labels.")
    try:
        return context.labels(places[0], context.data(request.dataset)).astype(np.float64)
    except InvalidLabels as error:
        raise InvalidLabels("labelling", error.problem, error.remedy) from None
