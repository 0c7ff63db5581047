"""Health checks without a token. ``/healthz``: the process responds. ``/readyz``: the service can do its work."""

from __future__ import annotations

import os

from fastapi import APIRouter

from api import descriptors
from api.deps import Shared
from api.problems import Problem
from api.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Check that the process responds."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(service: Shared) -> dict[str, str]:
    """Check store, disk and executor; 503 names what is unavailable.

    Args:
        service: the service.

    Returns:
        the status ``ok``.

    Raises:
        Problem: if one of them is unavailable.
    """
    missing = [{"location": name, "message": message} for name, message in _missing(service)]
    if missing:
        raise Problem(503, "not-ready", " ".join(problem["message"] for problem in missing), missing)
    return {"status": "ok"}


def _missing(service: Service) -> list[tuple[str, str]]:
    folder, found = service.blobs.folder, []
    if not os.access(folder, os.W_OK):
        found.append(("store", "The store cannot be written to."))
    elif service.disk_is_full():
        found.append(("disk", "The disk is full."))
    if service.table.taken:
        found.append(("database", "Another service has begun to use the database."))
    if not service.table.database.reachable():
        found.append(("database", "The database cannot be reached."))
    if not service.lock.holds():
        found.append(("store", "The lock file of the store was removed: another service may use it. Start again."))
    if service.table.database.damaged:
        found.append(("database", "The table of jobs is damaged; the log says where."))
    if descriptors.are_short():
        found.append(("descriptors", "No file descriptors are left; raise the limit (ulimit -n)."))
    if problem := service.executor.problem():
        found.append(("executor", problem))
    if not service.dispatcher.ready():
        found.append(("executor", "No jobs are being done."))
    return found
