"""``/v1/labellings``: named labellings of a data set, and their numbers of +1 labels."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from api.bodies import StrictRoute
from api.deps import Digest, Shared
from api.errors import refused
from api.problems import Problem
from api.service import Service
from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.requests import RequestDataset, RequestLabellings

router = APIRouter(prefix="/v1/labellings", tags=["catalogue"], route_class=StrictRoute)
_MOST_LABELS = 10**8  # per request; takes some seconds
# Seconds of sleep per labelling: NumPy releases the interpreter's lock for microseconds, in which the event loop cannot
# take it.
_PAUSE = 1e-4


class LabellingsRequest(Specification):
    """Labellings of a data set.

    Attributes:
        dataset: data set.
        labellings: labellings of it; an uploaded array stands for one labelling per row.
    """

    dataset: RequestDataset
    labellings: RequestLabellings


@router.post("", status_code=201, responses={200: {"description": "The labellings existed already."}})
async def post(request: LabellingsRequest, http: Request, service: Shared) -> JSONResponse:
    """Name labellings. They are made once to check them. An invalid one gets an error; the others are kept.

    Args:
        request: data set and labellings.
        http: HTTP request; the work is abandoned if the client disconnects.
        service: the service.

    Returns:
        their id, the number of inputs and of labellings, and the number of +1 labels of each.
    """
    gone = threading.Event()
    watching = asyncio.create_task(_watch(http.receive, gone))
    try:
        document, new = await service.in_thread(_name, request, service, gone, limiter=service.naming)
    finally:
        watching.cancel()
    return JSONResponse(document, 201 if new else 200)


@router.get("")
def list_(service: Shared) -> dict[str, list[dict[str, Any]]]:
    """List named labellings, newest first, without their specifications.

    Args:
        service: the service.

    Returns:
        the labellings.
    """
    return {"labellings": service.labellings.list()}


@router.get("/{id}")
def get(id: Digest, service: Shared) -> dict[str, Any]:
    """Get labellings by id.

    Args:
        id: id of the labellings.
        service: the service.

    Returns:
        the labellings and their specification.

    Raises:
        Problem: if there are no such labellings.
    """
    document = service.labellings.get(id)
    if document is None:
        raise Problem(404, "not-found", f"There are no labellings {id}. Name them with POST /v1/labellings.")
    return document


@router.delete("/{id}", status_code=204)
def delete(id: Digest, service: Shared) -> None:
    """Delete the name of labellings.

    Args:
        id: id of the labellings.
        service: the service.
    """
    get(id, service)
    service.labellings.remove(id)


async def _watch(receive: Receive, gone: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _name(request: LabellingsRequest, service: Service, gone: threading.Event) -> tuple[dict[str, Any], bool]:
    known = service.labellings.get(request.content_hash)
    if known is not None:
        return known, False
    count = service.count(request.labellings)
    data, places = service.runner.data(request.dataset), service.runner.places(request.labellings)
    n = len(data.X)
    if count * n > _MOST_LABELS:
        problem = f"{count:,} labellings of {n:,} inputs are {count * n:,} labels, and {_MOST_LABELS:,} are allowed"
        message = f"{problem}. Send at most {max(_MOST_LABELS // n, 1):,} at a time."
        raise refused([{"location": "labellings", "message": message}], "too-long")
    positive: list[int | None] = []
    errors: list[dict[str, Any]] = []
    for row, place in enumerate(places):
        if gone.is_set():
            raise ClientDisconnect
        time.sleep(_PAUSE)
        try:
            positive.append(int((service.runner.labels(place, data) > 0).sum()))
        except InvalidLabels as error:
            positive.append(None)
            errors.append({"labelling": row, "message": str(error)})
    document = {
        "id": request.content_hash,
        "dataset": request.dataset.content_hash,
        "n": n,
        "count": len(places),
        "positive": positive,
        "errors": errors,
    }
    specification = request.as_json
    new = service.labellings.put(request.content_hash, document, specification)
    return {**document, "specification": specification}, new
