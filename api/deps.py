"""Dependencies of routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from api.service import Service


def service_of(request: Request) -> Service:
    """Return the service created by the application's lifespan."""
    return request.app.state.service


Shared = Annotated[Service, Depends(service_of)]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 in 64 hexadecimal digits.")]
