"""Routes, one module per resource."""

from __future__ import annotations

from api.routes import (
    blobs,
    catalogue,
    compare,
    datasets,
    docs,
    health,
    jobs,
    kernels,
    labellings,
    new,
    pages,
    sign_in,
    submissions,
)

ROUTERS = (
    health.router,
    docs.router,
    sign_in.router,
    pages.router,
    new.router,
    compare.router,
    catalogue.router,
    blobs.router,
    datasets.router,
    labellings.router,
    kernels.router,
    *submissions.routers(),
    jobs.router,
)
