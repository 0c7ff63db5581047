"""Messages between a service and its Dask workers, and the names of workers' resources."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from api.executors.base import Cancelled, Done, Failed, Lost, Outcome, PutBack, Task
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.pieces import encode
from nngp_prior.versions import versions

PREFIX = "nngp-prior"
ADDRESS = "NNGP_DASK_ADDRESS"
HUNG = "nngp-prior-hung"  # metric of a worker: 1 if one of its tasks hangs
FENCE, MESSAGE = "nngp-prior-fence", "nngp-prior-message"  # fields of an event
_OUTCOMES: dict[str, type[Outcome]] = {each.__name__: each for each in (Done, Lost, Failed, PutBack, Cancelled)}


@functools.cache
def resource_names() -> tuple[str, str]:
    """Return the names of a worker's cores and bytes, which contain a digest of the versions that numbers depend on.

    Dask gives a task to workers with its resources only: workers of other versions never compute for a service.
    """
    digest = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode()).hexdigest()[:12]
    return f"{PREFIX}-{digest}-cores", f"{PREFIX}-{digest}-bytes"


def is_of_other_versions(resources: Mapping[str, float]) -> bool:
    """True if a worker computes for services of other versions."""
    return any(name.startswith(f"{PREFIX}-") for name in resources) and resource_names()[0] not in resources


@dataclass(frozen=True)
class Unit:
    """A task on its way to a worker.

    Attributes:
        task: the task.
        topic: topic of Dask's events that the service listens to.
        folder: id of the service's store, by which a worker sees if it shares the folder.
    """

    task: Task
    topic: str
    folder: str

    def encoded(self) -> str:
        """Return the unit as JSON."""
        return encode(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Unit:
        """Return the unit of its JSON.

        Args:
            text: output of :meth:`encoded`.

        Returns:
            the unit.
        """
        fields = json.loads(text)
        task = {**fields["task"], "rows": tuple(fields["task"]["rows"])}
        return cls(Task(**task), fields["topic"], fields["folder"])


def require_address(address: str) -> str:
    """Check the address of a scheduler, and that there are certificates if it asks for them.

    Args:
        address: address such as ``tcp://login:8786``.

    Returns:
        the address.

    Raises:
        InvalidInput: if it is invalid, or ``tls://`` lacks certificates.
    """
    from distributed.comm.addressing import get_address_host_port
    from distributed.security import Security

    try:
        get_address_host_port(address, strict=True)
    except ValueError as error:
        problem = f"got {address!r} ({error})"
        raise InvalidInput(ADDRESS, problem, "Give one like tcp://login:8786 or tls://login:8786.") from None
    if address.startswith("tls://") and Security().get_connection_args("client")["ssl_context"] is None:
        problem = f"{address} needs certificates, and Dask's configuration has none"
        remedy = "Set DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the certificates and keys of its roles."
        raise InvalidInput(ADDRESS, problem, remedy)
    return address


def log_through_root() -> None:
    """Have Dask's loggers write warnings where all others do, instead of lines of their own."""
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("distributed").setLevel(logging.WARNING)


def encoded_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a JSON object."""
    return {"outcome": type(outcome).__name__, "fields": asdict(outcome)}


def decoded_outcome(message: Mapping[str, Any]) -> Outcome:
    """Return the outcome of the output of :func:`encoded_outcome`."""
    return _OUTCOMES[message["outcome"]](**message["fields"])
