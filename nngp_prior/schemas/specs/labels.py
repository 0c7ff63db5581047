"""Validation of labels, with remedies that suit the calling function."""

from __future__ import annotations

import numpy as np
from jaxtyping import Real
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.arrays import plain_array
from nngp_prior.schemas.specs.estimator import WITH_CLASSES, Estimator, classes_of


def check_labels_for(estimator: Estimator, labels: ArrayLike, n: int, *, field: str = "y") -> Real[np.ndarray, " n"]:
    """Validate labels for an estimator; see :func:`check_labels`.

    Args:
        estimator: estimator, whose ``classes``, if it has the field, determines the kind of labels.
        labels: n labels.
        n: number of inputs.
        field: name of the argument, for messages.

    Returns:
        an array of -1.0 and +1.0, or of integers 0 … C-1.
    """
    takes_classes = estimator.kind in WITH_CLASSES
    return check_labels(labels, n, classes_of(estimator), takes_classes=takes_classes, field=field)


def check_labels(
    labels: ArrayLike, n: int, classes: int | None = None, *, takes_classes: bool = False, field: str = "y"
) -> Real[np.ndarray, " n"]:
    """Convert labels to ±1.0, or classes to integers.

    Args:
        labels: n integers -1 or +1, or n booleans (True is +1); with ``classes``, n integers from 0 on.
        n: number of inputs.
        classes: number of classes C, if labels are classes.
        takes_classes: True if the caller has an option ``classes`` that a message may name.
        field: name of the argument, for messages.

    Returns:
        an array of -1.0 and +1.0, or of integers 0 … C-1.

    Raises:
        InvalidLabels: if there are other values, or another number of labels.
    """
    y = label_array(labels, field)
    if y.shape != (n,):
        flat = f"Pass {field}.ravel()." if y.shape in ((n, 1), (1, n)) else "Pass one label per input."
        raise InvalidLabels(field, f"got shape {y.shape} where there are {n:,} inputs", flat)
    if classes is not None:
        return _check_classes(y, classes, field)
    if y.dtype == np.bool_:
        return np.where(y, 1.0, -1.0)
    wrong = np.flatnonzero((y != 1) & (y != -1))
    if not len(wrong):
        return y.astype(np.float64)
    i = int(wrong[0])
    if np.isin(y, (0, 1)).all():
        remedy = f"Pass 2 * {field} - 1, " + ("booleans, or classes=2." if takes_classes else "or booleans.")
        raise InvalidLabels(field, f"got labels 0 and 1 ({field}[{i}] is {y[i]})", remedy)
    remedy = "Labels are -1 and +1, or booleans."
    if (y == np.floor(y)).all() and y.min() >= 0:
        remedy = f"Labels are -1 and +1; for one class against the rest, pass {field} == {int(y[i])}."
        if takes_classes:
            remedy += f" If they are classes 0 … C-1, pass classes=C, at least {int(y.max()) + 1}."
    raise InvalidLabels(field, f"{field}[{i}] is {y[i]}", remedy)


def label_array(labels: ArrayLike, field: str = "y") -> np.ndarray:
    """Convert labels to an array of booleans or real numbers, of any shape and values.

    Args:
        labels: labels of one or several labellings.
        field: name of the argument, for messages.

    Returns:
        the array.

    Raises:
        InvalidLabels: if labels are masked or text, or rows differ in length.
    """
    remedy = "Pass integers, or booleans."
    try:
        y = plain_array(labels)
    except (TypeError, ValueError) as error:
        raise InvalidLabels(field, f"got no array of labels ({error})", remedy) from None
    if y.dtype.kind not in "biuf":
        raise InvalidLabels(field, f"got type {y.dtype}", remedy)
    return y


def _check_classes(y: np.ndarray, classes: int, field: str) -> np.ndarray:
    expected = f"With classes={classes}, labels are integers 0 … {classes - 1}"
    if y.dtype == np.bool_:
        raise InvalidLabels(field, "got booleans", f"{expected}; booleans need no classes.")
    wrong = np.flatnonzero(~((y >= 0) & (y < classes) & (y == np.floor(y))))
    if len(wrong):
        i = int(wrong[0])
        remedy = f"{expected}."
        if np.isin(y, (-1, 1)).all():
            remedy = f"{expected}; -1 and +1 need no classes."
        elif y.min() >= 1 and y.max() == classes:
            remedy = f"{expected}: pass {field} - 1."
        raise InvalidLabels(field, f"{field}[{i}] is {y[i]}", remedy)
    return y.astype(np.int64)
