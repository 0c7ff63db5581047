"""``/v1/datasets``: named data sets and their properties."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse

from api.bodies import StrictRoute
from api.deps import Digest, Shared
from api.problems import Problem
from api.service import Service
from nngp_prior.schemas.pieces import encode
from nngp_prior.schemas.requests import RequestDataset

router = APIRouter(prefix="/v1/datasets", tags=["catalogue"], route_class=StrictRoute)


@router.post("", status_code=201, responses={200: {"description": "The data set existed already."}})
async def post(dataset: Annotated[RequestDataset, Body()], service: Shared) -> JSONResponse:
    """Name a data set. It is loaded once to check it; afterwards it is available by its id.

    Args:
        dataset: specification of the data set.
        service: the service.

    Returns:
        its id, the number and shape of its inputs, and their classes.
    """
    document, new = await service.in_thread(_name, dataset, service)
    return JSONResponse(document, 201 if new else 200)


@router.get("")
def list_(service: Shared) -> dict[str, list[dict[str, Any]]]:
    """List named data sets, newest first, without their specifications.

    Args:
        service: the service.

    Returns:
        the data sets.
    """
    return {"datasets": service.datasets.list()}


@router.get("/{id}")
def get(id: Digest, service: Shared) -> dict[str, Any]:
    """Get a data set by id.

    Args:
        id: id of the data set.
        service: the service.

    Returns:
        the data set and its specification.

    Raises:
        Problem: if there is no such data set.
    """
    document = service.datasets.get(id)
    if document is None:
        raise Problem(404, "not-found", f"There is no data set {id}. Name it with POST /v1/datasets.")
    return document


@router.delete("/{id}", status_code=204)
def delete(id: Digest, service: Shared) -> None:
    """Delete the name of a data set, unless an open job uses it.

    Args:
        id: id of the data set.
        service: the service.

    Raises:
        Problem: if there is no such data set, or it is in use.
    """
    used_by = service.table.job_with(encode(get(id, service)["specification"]))
    if used_by is not None:
        raise Problem(409, "data-set-in-use", f"The job {used_by} uses it. Delete it when that has ended.")
    service.datasets.remove(id)


def _name(dataset: RequestDataset, service: Service) -> tuple[dict[str, Any], bool]:
    data = service.runner.data(dataset)
    specification = dataset.as_json
    document = {
        "id": dataset.content_hash,
        "kind": dataset.kind,
        "n": len(data.X),
        "input_shape": list(data.image_shape),
        "classes": [int(known) for known in data.known_classes],
    }
    new = service.datasets.put(dataset.content_hash, document, specification)
    return {**document, "specification": specification}, new
