"""The application: routes, middleware, answers to errors, start and stop."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from resvox._version import __version__
from resvox.server.guard import Guard, Measured
from resvox.server.logs import event
from resvox.server.refusals import RefusedError
from resvox.server.routes import jobs, monailabel, pages, state
from resvox.server.service import Service

RETRY_S = "5"  # after 429, 503 and 507
TITLE = "resvox serve"
ABOUT = (
    "Segmentation of medical scans. Jobs are queued, run one after the other on each device, and removed after a while."
)


def build_app(service: Service) -> FastAPI:
    """The application of a service; starting and stopping it starts and stops the workers."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Parts of forms are spooled where uploads are counted, and removed at the next start.
        tempfile.tempdir = str(service.folders.spool)
        await run_in_threadpool(service.start)
        event("server started", models=sorted(service.models), version=__version__)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)
            tempfile.tempdir = None
            event("server stopped")

    app = FastAPI(
        title=TITLE,
        description=ABOUT,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # they would load scripts from another server
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for module in (pages, jobs, state, monailabel):
        app.include_router(module.router)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Guard, settings=service.settings)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Accept"],
            expose_headers=["Content-Disposition"],
            max_age=600,
        )
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    retry = {"Retry-After": RETRY_S} if status in (429, 503, 507) else {}
    return JSONResponse({"detail": detail}, status_code=status, headers={**(headers or {}), **retry})


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return _problem(error.status, str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Which fields are not valid, and why; never what they hold."""
    assert isinstance(error, RequestValidationError)
    found: list[dict[str, Any]] = list(error.errors())
    texts = [f"{'.'.join(str(part)[:40] for part in each['loc'])}: {each['msg']}" for each in found[:5]]
    return _problem(422, "; ".join(texts).encode("ascii", "backslashreplace").decode())


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail), dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    event("unexpected error", level=logging.ERROR, kind=type(error).__name__)
    return _problem(500, f"unexpected {type(error).__name__}")
