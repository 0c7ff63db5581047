"""``/docs``: a page that shows ``/openapi.json`` and loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(prefix="/docs", include_in_schema=False)
_WEB = Path(__file__).parents[1] / "web"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("")
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(_WEB / "docs.html", headers={"Content-Security-Policy": _POLICY})


@router.get("/docs.js")
def script() -> FileResponse:
    """Return the page's script."""
    return FileResponse(_WEB / "docs.js", media_type="text/javascript")


@router.get("/docs.css")
def style() -> FileResponse:
    """Return the page's style sheet."""
    return FileResponse(_WEB / "docs.css")
