"""Forms with files (``multipart/form-data``, RFC 7578), received to disk and never held in memory."""

from __future__ import annotations

import hashlib
import mmap
import re
from dataclasses import dataclass, field
from typing import BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.blobs import BlobStore
from api.bodies import content_length
from api.files import draft, require_space
from api.problems import Problem
from api.service import Service
from nngp_prior.errors import NngpPriorError

_PARTS = 1000
_PIECE = 2**20  # bytes checked and written at a time
_OVERHEAD = 2**20  # bytes of a form besides its files
_FILES = 3
_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^\s";]{1,70})"?', re.IGNORECASE)
_NAME, _FILE = re.compile(rb'[;\s]name="([^"]*)"'), re.compile(rb'filename="([^"]*)"')


@dataclass
class Form:
    """Received form.

    Attributes:
        values: texts by name of the field.
        uploads: SHA-256 of uploaded arrays by name of the field.
        errors: what is wrong with a file, by name of the field.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


async def receive(request: Request, service: Service) -> Form:
    """Receive a form, and store its files as uploaded arrays.

    Args:
        request: request with the form.
        service: the service.

    Returns:
        the form; files that cannot be used are among its errors.

    Raises:
        Problem: if the body is no such form, or too large.
    """
    found = _BOUNDARY.match(request.headers.get("content-type", ""))
    if found is None:
        raise Problem(415, "unsupported-media-type", "The body is no form with files. Send multipart/form-data.")
    length = content_length(request.headers)
    if length is None:
        raise Problem(411, "length-required", "There is no Content-Length. State the length; do not send in chunks.")
    most = _FILES * service.settings.max_blob_bytes + _OVERHEAD
    if length > most:
        raise Problem(413, "body-too-large", f"The form has {length:,} bytes, and {most:,} are allowed. Send less.")
    folder, free = service.blobs.folder, service.settings.min_free_disk
    require_space(folder, length, free)
    with draft(folder) as (file, path):
        async for chunk in request.stream():
            await run_in_threadpool(_write, file, chunk)
        if path.stat().st_size == 0:
            raise Problem(422, "invalid-request", "The form is empty. Fill it in.")
        with path.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as body:
            return await service.in_thread(_read, body, found[1].encode("latin-1"), service.blobs)


def _write(file: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:  # an unbuffered file may take a part
        view = view[file.write(view) :]


def _read(body: mmap.mmap, boundary: bytes, blobs: BlobStore) -> Form:
    form, delimiter = Form(), b"--" + boundary
    place = body.find(delimiter)
    for _ in range(_PARTS):
        head = place + len(delimiter) + 2
        start, end = body.find(b"\r\n\r\n", head) + 4, body.find(b"\r\n" + delimiter, head)
        if place >= 0 and body[head - 2 : head] == b"--":
            return form
        if place < 0 or not head < start <= end:
            break
        headers = body[head : start - 2]
        name, file = _NAME.search(headers), _FILE.search(headers)
        if name is None:
            break
        field = name[1].decode(errors="replace")
        if file is None:
            text = body[start : min(end, start + _OVERHEAD)].decode(errors="replace")
            form.values.setdefault(field, []).append(text.replace("\r\n", "\n").strip())
        elif file[1]:  # chosen
            try:
                form.uploads[field] = _store(body, start, end, blobs)
            except (Problem, NngpPriorError) as error:
                form.errors[field] = str(error).replace("The body", "The file")
        place = end + 2
    raise Problem(422, "invalid-request", "The form cannot be read as multipart/form-data. Send it from its page.")


def _store(body: mmap.mmap, start: int, end: int, blobs: BlobStore) -> str:
    """Store a part of the body as an array; return its hash."""
    sha = hashlib.sha256()
    with memoryview(body) as view:
        for i in range(start, end, _PIECE):
            sha.update(view[i : min(i + _PIECE, end)])
    name = sha.hexdigest()
    if blobs.describe(name) is None:
        with blobs.upload(name, end - start) as upload:
            for i in range(start, end, _PIECE):
                upload.write(body[i : min(i + _PIECE, end)])
            upload.finish()
    return name
