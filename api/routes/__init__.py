"""The routes; one module a resource."""

from __future__ import annotations

from api.routes import blobs, catalogue, datasets, docs, health, kernels, labellings

ROUTERS = (
    health.router,
    docs.router,
    catalogue.router,
    blobs.router,
    datasets.router,
    labellings.router,
    kernels.router,
)
