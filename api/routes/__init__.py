"""Routes, one module per resource."""

from __future__ import annotations

from api.routes import blobs, catalogue, datasets, docs, health, jobs, kernels, labellings, pages, sign_in, submissions

ROUTERS = (
    health.router,
    docs.router,
    sign_in.router,
    pages.router,
    catalogue.router,
    blobs.router,
    datasets.router,
    labellings.router,
    kernels.router,
    *submissions.routers(),
    jobs.router,
)
