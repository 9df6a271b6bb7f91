"""The state of the server, for supervisors and Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from resvox.server.routes.answers import Problem, refusals, service_of

router = APIRouter(tags=["state"])


class Health(BaseModel):
    """Whether jobs are being done."""

    status: str


@router.get("/healthz", responses={503: {"model": Problem, "description": "No worker is ready."}, **refusals()})
async def health(request: Request) -> Health:
    """200 where a worker process is ready, 503 while models are loaded or the server stops."""
    # Answered without a thread of the pool, which other requests may hold while the disk is slow.
    if service_of(request).scheduler.is_ready:
        return Health(status="ok")
    return JSONResponse({"detail": "no worker process is ready"}, status_code=503)  # type: ignore[return-value]


@router.get("/metrics", response_class=PlainTextResponse, responses=refusals())
def metrics(request: Request) -> PlainTextResponse:
    """Figures in Prometheus's text format."""
    service = service_of(request)
    service.measure()
    return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
