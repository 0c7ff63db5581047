"""Specification of a kernel matrix to compute: everything that determines it, and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures.inputs import check_inputs, no_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import ARCHITECTURES, Architecture
from nngp_prior.schemas.text import one_line
from nngp_prior.versions import versions

Get = Literal["nngp", "ntk", "d-weight-std", "d-bias-std"]
DType = Literal["float32", "float64"]
# Parts of the hash: a number to be increased with every change of the recursions that affects their results, and the
# packages whose versions affect them too.
_RECURSIONS = 4
_COMPUTED_WITH = ("numpy", "scipy", "jax", "jaxlib")
_CHOICES = {"get": get_args(Get), "dtype": ("float64", "float32")}


@dataclass(frozen=True, eq=False)
class KernelJob:
    """A kernel matrix to compute; created by :meth:`of`.

    Attributes:
        architecture: specification of the network.
        X: inputs of the rows.
        X2: inputs of the columns; None if they are those of the rows.
        get: which matrix, as for :func:`nngp_prior.kernel`.
        dtype: dtype of the computation and of the matrix.
    """

    architecture: Architecture
    X: Float[np.ndarray, "n ..."]
    X2: Float[np.ndarray, "n2 ..."] | None
    get: Get
    dtype: DType

    def __repr__(self) -> str:
        return one_line(self)

    @classmethod
    def of(cls, architecture: Architecture, X: ArrayLike, X2: ArrayLike | None, get: str, dtype: str) -> KernelJob:
        """Validate all arguments and create the job.

        Args:
            architecture: specification of the network.
            X: (n, …) inputs.
            X2: (n2, …) other inputs, or None.
            get: which matrix, as for :func:`nngp_prior.kernel`.
            dtype: ``float64`` or ``float32``.

        Returns:
            the job.

        Raises:
            InvalidInput: if an argument is invalid, or X2 has inputs of another shape.
        """
        if not isinstance(architecture, ARCHITECTURES):
            error = no_architecture(architecture)
            raise error
        check_choice("get", get)
        check_choice("dtype", dtype)
        X = check_inputs("X", X, architecture)
        if X2 is not None:
            X2 = check_inputs("X2", X2, architecture)
            if X.shape[1:] != X2.shape[1:]:
                has, other = (
                    f"{A.shape[1]} features" if A.ndim == 2 else f"images of shape {A.shape[1:]}" for A in (X2, X)
                )
                raise InvalidInput("X2", f"has {has} where X has {other}", "Give both the same.")
        return cls(architecture, X, X2, get, dtype)  # pyright: ignore[reportArgumentType]  validated above

    @property
    def symmetric(self) -> bool:
        """True if rows and columns are the same inputs."""
        return self.X2 is None

    @property
    def columns(self) -> Float[np.ndarray, "n2 ..."]:
        """Inputs of the columns."""
        return self.X if self.X2 is None else self.X2

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix."""
        return len(self.X), len(self.columns)

    @property
    def nbytes(self) -> int:
        """Size of the matrix in bytes."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize

    @cached_property
    def key(self) -> str:
        """SHA-256, in hexadecimal, of everything that determines the matrix."""
        return self.key_of(_hash(self.X))

    def key_of(self, hash_of_inputs: str) -> str:
        """Return :attr:`key` for given inputs, if ``X`` holds zeros in their place.

        Args:
            hash_of_inputs: SHA-256 of the inputs' values in float64.

        Returns:
            the key of the job with these inputs.
        """
        content = json.dumps(
            [
                self.architecture.content_hash,
                [list(self.X.shape), hash_of_inputs],
                None if self.X2 is None else [list(self.X2.shape), _hash(self.X2)],
                self.get,
                self.dtype,
                _RECURSIONS,
                _versions(),
            ]
        )
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def description(self) -> dict[str, Any]:
        """Readable description, stored with a file or in a cache."""
        return {
            "architecture": self.architecture.model_dump(mode="json"),
            "input_shape": list(self.X.shape[1:]),
            "get": self.get,
        }


def _versions() -> dict[str, str]:
    return {package: versions()[package] for package in _COMPUTED_WITH}


def check_choice(field: Literal["get", "dtype"], value: str) -> None:
    """Refuse an invalid choice of kernel or precision.

    Args:
        field: name of the argument.
        value: value to check.

    Raises:
        InvalidInput: if it is none of the choices.
    """
    if value not in _CHOICES[field]:
        raise InvalidInput(field, f"got {value!r}", f"Choose one of {', '.join(_CHOICES[field])}.")


def _hash(X: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(X).data).hexdigest()
