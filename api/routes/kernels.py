"""``/v1/kernels``: contents of the kernel cache."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.bodies import StrictRoute
from api.deps import Digest, Shared
from api.problems import Problem
from api.service import Service
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import inspect
from nngp_prior.kernels.cache import Entry
from nngp_prior.schemas.results.base import finite

router = APIRouter(prefix="/v1/kernels", tags=["kernels"], route_class=StrictRoute)
_LARGEST = 5_000  # largest n for which the spectrum is computed within a request


@router.get("")
def list_(service: Shared) -> dict[str, Any]:
    """List cached kernels, most recently used first.

    Args:
        service: the service.

    Returns:
        finished and unfinished kernels, and the size limit of the cache in bytes.
    """
    entries = service.kernels.entries()
    total = sum(entry.bytes for entry in entries)
    return {"bytes": total, "limit": service.kernels.limit, "kernels": [entry.document for entry in entries]}


@router.get("/{key}")
async def get(
    key: Digest,
    service: Shared,
    spectrum: Annotated[
        bool, Query(description=f"Include the range of the eigenvalues, for n up to {_LARGEST:,}.")
    ] = False,
) -> dict[str, Any]:
    """Get a kernel by key.

    Args:
        key: key of the kernel.
        service: the service.
        spectrum: True to include the range of its eigenvalues, computed once.

    Returns:
        size, architecture, data set and time of last use.
    """
    document = _entry(service, key).document
    if not spectrum:
        return document
    return {**document, "spectrum": await service.in_thread(_spectrum, service, key, limiter=service.slow)}


@router.delete("/{key}", status_code=204)
def delete(key: Digest, service: Shared) -> None:
    """Remove a kernel from the cache.

    Args:
        key: key of the kernel.
        service: the service.

    Raises:
        Problem: if there is no such kernel, or it is in use.
    """
    _entry(service, key)
    if not service.kernels.remove(key):
        raise Problem(
            409, "kernel-in-use", f"The kernel {key} is being computed or used. Try again when its jobs are done."
        )


def _entry(service: Service, key: str) -> Entry:
    entry = service.kernels.entry(key)
    if entry is None:
        raise Problem(404, "not-found", f"There is no kernel {key}. GET /v1/kernels lists what there is.")
    return entry


def _spectrum(service: Service, key: str) -> dict[str, Any]:
    known = service.spectra.get(key)
    if known is not None:
        return known
    entry = _entry(service, key)
    n = entry.header.grid.n
    if n > _LARGEST or not entry.header.grid.symmetric or not entry.finished:
        problem = (
            f"the kernel has {n:,} inputs" if n > _LARGEST else "the kernel is unfinished, or of two sets of inputs"
        )
        remedy = f"Ask for those of whole kernels with at most {_LARGEST:,} inputs."
        raise InvalidInput("spectrum", problem, remedy)
    found = inspect(service.kernels.open(key))
    document = finite(
        {
            "largest": float(found.eigenvalues[0]),
            "smallest": float(found.eigenvalues[-1]),
            "condition": found.condition,
            "rank": found.rank,
            "effective_rank": found.effective_rank,
        }
    )
    service.spectra.put(key, document)
    return document
