"""The application; ``python -m api`` serves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from api import descriptors, errors, logs, metrics
from api.bodies import BodyLimits
from api.executors.base import Executor
from api.middleware import Envelope, HeadAsGet, HostCheck, OriginCheck, TokenCheck
from api.pages.figures import Figures
from api.routes import ROUTERS
from api.service import Service
from api.settings import ServerSettings
from api.token import token_of

_ABOUT = "log P of labellings under a neural network's prior, in nats. Errors are RFC 9457 problem details."


def create_app(settings: ServerSettings | None = None, executor: Executor | None = None) -> FastAPI:
    """Create the application.

    Args:
        settings: settings; default: from the environment.
        executor: executor of tasks; default: by the settings.

    Returns:
        the application.
    """
    settings = ServerSettings() if settings is None else settings
    logs.configure(logging.getLevelNamesMapping()[settings.log_level.upper()])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(descriptors.on_loop_error)
        app.state.service = await run_in_threadpool(Service, settings, executor)
        app.state.figures = Figures(app.state.service)
        try:
            yield
        finally:
            await run_in_threadpool(app.state.service.close)

    app = FastAPI(
        title="nngp-prior",
        version=version("nngp-prior"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=errors.schema(),
        lifespan=lifespan,
    )
    errors.install(app)
    # The middleware added last runs first. Refused requests are not counted: clients could invent methods.
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimits, settings=settings)
    metrics.instrument(app)
    app.add_middleware(OriginCheck)
    app.state.token = token_of(settings)
    app.add_middleware(TokenCheck, token=app.state.token)
    app.add_middleware(HostCheck, settings=settings)
    app.add_middleware(Envelope)
    for router in ROUTERS:
        app.include_router(router)
    return app
