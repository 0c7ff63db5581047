"""Inputs and labels from a user's own files: NumPy's, CSV, IDX. Nothing is unpickled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from nngp_prior.data.files import read_bytes
from nngp_prior.data.idx import read_idx
from nngp_prior.data.npy import npz_names, read_npy, read_npz
from nngp_prior.errors import DataUnavailable

_INPUTS, _LABELS = ("images", "X", "x"), ("labels", "y")  # names of arrays in a .npz file
_LABEL_COLUMNS = ("label", "labels", "class", "target", "y")
_IDX = re.compile(r"idx\d-ubyte")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


def read_inputs(path: Path) -> tuple[Shaped[np.ndarray, "n ..."], np.ndarray | None]:
    """Read inputs, and labels if the file has some.

    Args:
        path: path of a ``.npy`` file; a ``.npz`` file with ``images``, ``X`` or ``x``, and optionally ``labels`` or
            ``y``, or with a single array; a ``.csv`` file with one input per line, and labels in a column with the
            heading ``label``; or an IDX file, compressed or not, as for MNIST.

    Returns:
        both as they are in the file.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is none of these, or damaged.
    """
    if path.suffix == ".npz":
        names = npz_names(path)
        inputs = _named(path, names, _INPUTS, "inputs") or (names[0] if len(names) == 1 else None)
        if inputs is None:
            raise DataUnavailable(_no_array(path, names, "inputs", "images=…, labels=…"))
        labels = _named(path, names, _LABELS, "labels")
        found = read_npz(path, inputs, *filter(None, [labels]))
        return found[inputs], None if labels is None else found[labels]
    if path.suffix == ".csv":
        header, values = _read_csv(path)
        columns = [i for i, name in enumerate(header) if name.lower() in _LABEL_COLUMNS]
        if len(columns) > 1:
            raise DataUnavailable(f"{path}: has {len(columns)} columns of labels. Leave one of them.")
        if not columns:
            return values, None
        return np.delete(values, columns, axis=1), values[:, columns[0]]
    return _read_array(path), None


def read_labels(path: Path) -> list[tuple[str, Shaped[np.ndarray, " n"]]]:
    """Read named labellings.

    Args:
        path: path of a ``.npy`` or IDX file, (n,), (n, 1) or (L, n); a ``.npz`` file with that array as ``labels`` or
            ``y``, or as its only one; or a ``.csv`` file with one input per line and one labelling per column.

    Returns:
        name and labels of each, as they are in the file.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it has no labels.
    """
    if path.suffix == ".csv":
        header, values = _read_csv(path)
        names = header or [f"{path.name}[{i}]" for i in range(values.shape[1])]
        return list(zip(names if values.shape[1] > 1 else [path.name], values.T, strict=True))
    if path.suffix == ".npz":
        names = npz_names(path)
        labels = _named(path, names, _LABELS, "labels") or (names[0] if len(names) == 1 else None)
        if labels is None or labels in _INPUTS:
            raise DataUnavailable(_no_array(path, names, "labels", "labels=…"))
        Y = read_npz(path, labels)[labels]
    else:
        Y = _read_array(path)
    rows = np.atleast_2d(Y[:, 0] if Y.ndim == 2 and Y.shape[1] == 1 else Y)
    return [(f"{path.name}[{i}]" if len(rows) > 1 else path.name, row) for i, row in enumerate(rows)]


def unnamed_labels(path: Path, n: int) -> list[str]:
    """Find arrays that may be labels, saved under another name.

    Args:
        path: file of inputs without labels.
        n: number of inputs.

    Returns:
        names of the arrays (n,) and (n, 1) of a ``.npz`` file that are not inputs; none for other files.
    """
    if path.suffix != ".npz":
        return []
    found = []
    for name in npz_names(path):
        with suppress(DataUnavailable):  # such as Python objects
            if name not in _INPUTS and read_npz(path, name)[name].shape in ((n,), (n, 1)):
                found.append(name)
    return found


def _named(path: Path, names: Sequence[str], known: Sequence[str], what: str) -> str | None:
    """Return the array of a known name; None if there is none."""
    found = [name for name in known if name in names]
    if len(found) > 1:
        raise DataUnavailable(f"{path}: has several arrays of {what} ({', '.join(found)}). Save one of them.")
    return found[0] if found else None


def _read_array(path: Path) -> np.ndarray:
    if _IDX.search(path.name):
        return read_idx(path)
    if path.suffix != ".npy" and _PICKLE.match(read_bytes(path)[:2]):
        raise DataUnavailable(
            f"{path}: is a pickle, which can run any program and is not read. Load it where you trust it, and save its "
            "arrays with numpy.savez(path, images=…, labels=…)."
        )
    return read_npy(path)


def _no_array(path: Path, names: Sequence[str], what: str, keys: str) -> str:
    listed = ", ".join(sorted(names)) or "none"
    message = f"{path}: does not say which of its arrays are the {what} (it has {listed}). Save them with "
    message += f"numpy.savez(path, {keys})"
    if "x_train" in names:
        message += "; MNIST, Fashion-MNIST and CIFAR-10 from Keras are read as --data from a folder under NNGP_DATA"
    return f"{message}."


def _read_csv(path: Path) -> tuple[list[str], Float[np.ndarray, "lines columns"]]:
    """Return headings, if the first line has some, and numbers."""
    content = bytes(read_bytes(path))
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataUnavailable(f"{path}: is not text in UTF-8. Save numbers separated by commas.") from None
    first = [cell.strip().strip('"') for cell in lines[0].split(",")] if lines else []
    header = [] if any(map(_is_number, first)) else first
    if header and not header[0]:
        raise DataUnavailable(f"{path}: its first column has no heading, as an index has none. Save it without.")
    if len(first) > 2 and first == [str(i) for i in range(len(first))]:
        raise DataUnavailable(f"{path}: its first line is 0, 1, 2 …, as numbers of columns are. Save it without.")
    if not any(lines[bool(header) :]):
        raise DataUnavailable(f"{path}: has no numbers. Save numbers separated by commas.")
    try:
        values = np.loadtxt(lines[bool(header) :], delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        reason = str(error).partition(";")[0].rstrip(".")
        raise DataUnavailable(f"{path}: {reason} (below the headings). Save numbers separated by commas.") from None
    if header and len(header) != values.shape[1]:
        raise DataUnavailable(f"{path}: has {len(header)} headings over {values.shape[1]} columns. Save it again.")
    return header, values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
