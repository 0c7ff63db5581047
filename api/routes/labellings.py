"""``/v1/labellings``: labellings of a data set that were named, and how many of their labels are +1."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.bodies import BodyRoute
from api.deps import Digest, Shared
from api.problems import Problem
from api.service import Service
from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.request import RequestDataset, RequestLabellings

router = APIRouter(prefix="/v1/labellings", tags=["catalogue"], route_class=BodyRoute)


class LabellingsRequest(Specification):
    """Labellings of a data set.

    Attributes:
        dataset: its inputs.
        labellings: of them; an uploaded array stands for as many as it has rows.
    """

    dataset: RequestDataset
    labellings: RequestLabellings


@router.post("", status_code=201, responses={200: {"description": "They were there already."}})
async def post(request: LabellingsRequest, service: Shared) -> JSONResponse:
    """Name labellings: they are made once, to see that they can be. One that cannot has an error; the others are kept.

    Args:
        request: data set and labellings.
        service: that keeps them.

    Returns:
        their id, the number of inputs and of labellings, and how many labels of each are +1.
    """
    document, new = await service.in_thread(_name, request, service)
    return JSONResponse(document, 201 if new else 200)


@router.get("")
def list_(service: Shared) -> dict[str, list[dict[str, Any]]]:
    """All that were named, the newest first, without their specifications.

    Args:
        service: that keeps them.

    Returns:
        them.
    """
    return {"labellings": service.labellings.list()}


@router.get("/{id}")
def get(id: Digest, service: Shared) -> dict[str, Any]:
    """One of them.

    Args:
        id: of it.
        service: that keeps it.

    Returns:
        it, and its specification.

    Raises:
        Problem: there is none.
    """
    document = service.labellings.get(id)
    if document is None:
        raise Problem(404, "not-found", f"There are no labellings {id}. Name them with POST /v1/labellings.")
    return document


def _name(request: LabellingsRequest, service: Service) -> tuple[dict[str, Any], bool]:
    known = service.labellings.get(request.content_hash)
    if known is not None:
        return known, False
    service.count(request.labellings)
    data, places = service.bench.data(request.dataset), service.bench.places(request.labellings)
    positive: list[int | None] = []
    errors: list[dict[str, Any]] = []
    for row, place in enumerate(places):
        try:
            positive.append(int((service.bench.labels(place, data) > 0).sum()))
        except InvalidLabels as error:
            positive.append(None)
            errors.append({"labelling": row, "message": str(error)})
    document = {
        "id": request.content_hash,
        "dataset": request.dataset.content_hash,
        "n": len(data.X),
        "count": len(places),
        "positive": positive,
        "errors": errors,
    }
    specification = request.as_json
    new = service.labellings.put(request.content_hash, document, specification)
    return {**document, "specification": specification}, new
