"""A user's own network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nngp_prior.errors import InvalidInput


@dataclass(frozen=True, eq=False)  # compared by identity: functions need not be hashable
class FromNetwork:
    """A user's own network: ``FromNetwork(init, apply, name="…")``, or ``FromNetwork(*triple, name="…")`` of ``stax``.

    It is identified by its name: another network, or the same one with other variances, needs another name.

    Attributes:
        init: (key, input shape) -> (output shape, parameters), drawn from the prior. The shape's first axis is 1.
        apply: (parameters, X) -> (n, outputs) or (n,), written with JAX; each input's outputs depend on that input and
            the parameters alone.
        kernel_fn: (X, X2, get) -> (n, n2) kernel at infinite width; None if there is none. X2 None stands for X.
        name: its key in the cache.

    Raises:
        InvalidInput: if a function is not callable, or the name is empty.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    kernel_fn: Callable[..., Any] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for field in ("init", "apply", "kernel_fn"):
            value = getattr(self, field)
            if not callable(value) and not (field == "kernel_fn" and value is None):
                raise InvalidInput(field, f"got {value!r}, which cannot be called", "Pass FromNetwork(init, apply, …).")
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput("name", f"got {self.name!r}", 'Give the network a name of its own: name="my-network".')

    @property
    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, of the name."""
        return hashlib.sha256(f"from-network\0{self.name}".encode()).hexdigest()
