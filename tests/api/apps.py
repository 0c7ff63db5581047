"""An application in process, and bodies to send to it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ServerSettings

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def settings(home: Path, **fields: Any) -> ServerSettings:
    return ServerSettings(**{"home": home, "token": TOKEN, "min_free_disk": 0, **fields})


@contextmanager
def client(home: Path, **fields: Any) -> Iterator[TestClient]:
    app = create_app(settings(home, **fields))
    with TestClient(app, base_url="http://localhost", headers=BEARER) as served:
        yield served


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    size = 2 if version == b"\x01\x00" else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text.encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, which must be this one."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code), document
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["title"]
    assert document["detail"].endswith(".")
    return document
