"""Initial sites for EP, from a related labelling or from the same labelling on the leading inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior import progress as _progress
from nngp_prior.errors import InvalidInput
from nngp_prior.probability.ep import Sites, expectation_propagation
from nngp_prior.probability.factored_kernel import FactoredKernel, prepare
from nngp_prior.schemas.specs.estimator import EP
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.text import one_line


@dataclass(frozen=True)
class Start:
    """EP's sites for the leading inputs of a data set, in the order of the user's matrix.

    They refer to g_i = y_i f_i divided by its standard deviation: exp(-½ s g² + ν g).

    Attributes:
        labels: y, ±1.
        precision: s, zero for an input represented by another one with the same or the opposite function value.
        shift: ν.
    """

    labels: Float[np.ndarray, " p"]
    precision: Float[np.ndarray, " p"]
    shift: Float[np.ndarray, " p"]

    def __repr__(self) -> str:
        return one_line(self)


def ep_start(K: ArrayLike, y: ArrayLike, start: Start | None = None, **options: Any) -> Start:
    """Run EP and return its sites, as a start for other runs.

    Args:
        K: (p, p) covariance matrix.
        y: (p,) integers -1/+1 or booleans, which do not contradict each other on tied inputs.
        start: initial sites of this run; default: none.
        **options: fields of ``EP``.

    Returns:
        the sites.

    Raises:
        InvalidInput: if K, y or an option is invalid.
    """
    parameters = EP(**options)
    if parameters.classes is not None:
        raise InvalidInput("classes", f"got {parameters.classes}", "A start is of labels -1 and +1: leave it out.")
    kernel = prepare(K, parameters)
    y = check_labels(y, kernel.n)
    reduced = kernel.reduce(y)
    if reduced is None:
        first, second = kernel.contradiction(y)
        raise InvalidInput(
            "y", f"the labels of inputs {first} and {second}, which determine each other, contradict", "P is 0."
        )
    sites = expectation_propagation(
        kernel, reduced, parameters, _progress.ignore, start=sites_for(kernel, reduced, start)
    ).sites
    return start_of(kernel, y, sites)


def start_of(kernel: FactoredKernel, labels: Float[np.ndarray, " n"], sites: Sites) -> Start:
    """Convert sites of the inputs kept to a start, in the order of the user's matrix.

    Args:
        kernel: kernel that the sites belong to.
        labels: ±1 for all inputs.
        sites: sites for the inputs kept.

    Returns:
        a start for kernels that begin with these inputs.
    """
    precision, shift = np.zeros((2, kernel.n))
    precision[kernel.kept], shift[kernel.kept] = sites.precision, sites.shift
    return Start(labels, precision, shift)


def sites_for(kernel: FactoredKernel, labels: Float[np.ndarray, " m"], start: Start | None) -> Sites | None:
    """Return the initial sites for the inputs kept: none without a start, or for inputs whose label differs.

    Args:
        kernel: a factored kernel.
        labels: ±1 for the inputs kept.
        start: sites for any number of the kernel's leading inputs.

    Returns:
        sites, or None without a start.

    Raises:
        InvalidInput: if the start has more inputs than the kernel.
    """
    if start is None:
        return None
    count = len(start.labels)
    if count > kernel.n:
        raise InvalidInput("start", f"is of {count} inputs where K has {kernel.n}", "Use one of fewer inputs.")
    known = kernel.kept < count
    known[known] = start.labels[kernel.kept[known]] == labels[known]
    precision, shift = np.zeros((2, kernel.m))
    precision[known], shift[known] = start.precision[kernel.kept[known]], start.shift[kernel.kept[known]]
    return Sites(precision, shift)
