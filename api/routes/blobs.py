"""``/v1/blobs/{sha256}``: uploaded arrays, named by their hash."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from api.blobs import Upload
from api.bodies import StrictRoute, content_length, require_type
from api.deps import Digest, Shared
from api.problems import Problem

router = APIRouter(prefix="/v1/blobs", tags=["blobs"], route_class=StrictRoute)
MEDIA_TYPE = "application/x-npy"
_PART = 2**20  # bytes checked and written at a time
_BODY = {
    "required": True,
    "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary", "contentMediaType": MEDIA_TYPE}}},
}


@router.put(
    "/{sha256}",
    status_code=201,
    responses={200: {"description": "The array existed already."}},
    openapi_extra={"requestBody": _BODY},
)
async def put(sha256: Digest, request: Request, service: Shared) -> JSONResponse:
    """Upload a ``.npy`` file of finite real numbers in little-endian order. 200 if it was already stored.

    Args:
        sha256: SHA-256 of the whole file.
        request: request with the file as its body.
        service: the service.

    Returns:
        size, dtype and shape.

    Raises:
        Problem: if the file is refused.
    """
    length = content_length(request.headers)
    if length is None:
        raise Problem(411, "length-required", "There is no Content-Length. State the length; do not send in chunks.")
    require_type(request.headers, (MEDIA_TYPE, "application/octet-stream", ""))
    known = await run_in_threadpool(service.blobs.describe, sha256)
    if known is not None:
        return JSONResponse(known)
    with service.blobs.upload(sha256, length) as upload:
        document, new = await _receive(request, upload)
    return JSONResponse(document, 201 if new else 200)


@router.head("/{sha256}", responses={200: {"description": "The array exists; its size and type are in the headers."}})
def head(sha256: Digest, service: Shared) -> Response:
    """Check that an array exists; its size is the Content-Length.

    Args:
        sha256: hash of its file.
        service: the service.

    Returns:
        a response without a body.

    Raises:
        Problem: if there is no such array.
    """
    known = service.blobs.describe(sha256)
    if known is None:
        raise Problem(404, "not-found", f"There is no array {sha256}. Upload it with PUT.")
    shape = ",".join(map(str, known["shape"]))
    headers = {"Content-Length": str(known["bytes"]), "X-Array-Dtype": known["dtype"], "X-Array-Shape": shape}
    return Response(headers=headers, media_type=MEDIA_TYPE)


@router.delete("/{sha256}", status_code=204)
def delete(sha256: Digest, service: Shared) -> None:
    """Delete an array, unless an open job or a catalogue entry uses it.

    Args:
        sha256: hash of its file.
        service: the service.

    Raises:
        Problem: if there is no such array, or it is in use.
    """
    for kind, used_by in (
        ("job", service.table.job_with),
        ("data set", service.datasets.with_part),
        ("labellings", service.labellings.with_part),
    ):
        if found := used_by(sha256):
            raise Problem(409, "array-in-use", f"The {kind} {found} uses the array {sha256}. Delete it afterwards.")
    if not service.blobs.remove(sha256):
        raise Problem(404, "not-found", f"There is no array {sha256}.")


async def _receive(request: Request, upload: Upload) -> tuple[dict[str, Any], bool]:
    part = bytearray()
    async for chunk in request.stream():
        part += chunk
        if len(part) >= _PART:
            await run_in_threadpool(upload.write, part)
            part = bytearray()
    await run_in_threadpool(upload.write, part)
    return await run_in_threadpool(upload.finish)
