"""What routes answer: typed bodies, errors, and the tables of statuses for the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import BaseModel

from resvox.server.jobs import Job
from resvox.server.service import ServedModel, Service

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The identifier of a job.")]


class Problem(BaseModel):
    """Why a request was refused: what was got, what is expected, and the fix."""

    detail: str


TEXTS = {
    400: "The request cannot be parsed.",
    401: "No token, or another one.",
    403: "A page of another origin, or another host name.",
    404: "It does not exist.",
    409: "The job is in another state.",
    413: "More bytes than the limit.",
    422: "The request is not valid, or the files cannot be a scan.",
    429: "The queue is full.",
    502: "The DICOMweb server.",
    503: "The server is starting or stopping.",
    507: "The server's disk is full.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error statuses of a route; those that any request may get are always among them."""
    return {status: {"model": Problem, "description": TEXTS[status]} for status in sorted({401, 403, *statuses})}


class Progress(BaseModel):
    """How far a running job is: windows of the network."""

    stage: str
    done: int
    total: int


class ResultFile(BaseModel):
    """A file that can be downloaded."""

    bytes: int
    url: str


class JobState(BaseModel):
    """A job. Times are seconds since 1970."""

    id: str
    model: str
    state: str
    created: float
    started: float | None
    finished: float | None
    attempts: int
    waiting_before: int
    progress: Progress | None
    reason: str
    kind: str
    notes: list[str]
    seconds: dict[str, float]
    volumes_ml: dict[str, float]
    pushed: dict[str, str] | None
    files: dict[str, ResultFile]


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobState]


class ModelState(BaseModel):
    """A model that jobs can name."""

    name: str
    labels: dict[str, int]
    channels: list[str]
    spatial_dims: int
    engine: str
    problem: str


class Limits(BaseModel):
    """What uploads must keep to."""

    max_upload_mb: float
    max_unpacked_mb: float
    max_megavoxels: float
    max_files: int


class ServerState(BaseModel):
    """The models, the limits, and what the server can do."""

    version: str
    models: list[ModelState]
    limits: Limits
    has_dicomweb: bool


def service_of(request: Request) -> Service:
    """The service of the application."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def job_state(service: Service, job: Job) -> JobState:
    """A job as it is answered."""
    made, progress = job.outcome, service.scheduler.progress.get(job.id)
    return JobState(
        id=job.id,
        model=job.model,
        state=job.state,
        created=job.created,
        started=job.started,
        finished=job.finished,
        attempts=job.attempts,
        waiting_before=service.store.place(job) if job.state == "queued" else 0,
        progress=None if progress is None else Progress(stage=progress[0], done=progress[1], total=progress[2]),
        reason=job.reason,
        kind=job.kind,
        notes=list(made.notes) if made else [],
        seconds=made.seconds if made else {},
        volumes_ml=made.volumes_ml if made else {},
        pushed=made.pushed if made else None,
        files={
            kind: ResultFile(bytes=size, url=f"/jobs/{job.id}/files/{kind}")
            for kind, (_, size) in (made.files if made else {}).items()
        },
    )


def model_state(service: Service, model: ServedModel) -> ModelState:
    """A model as it is answered."""
    devices = service.scheduler.devices
    return ModelState(
        name=model.name,
        labels=model.labels,
        channels=list(model.card.channel_names),
        spatial_dims=model.card.spatial_dims,
        engine=next((each.engines[model.name] for each in devices if model.name in each.engines), ""),
        problem=next((each.problems[model.name] for each in devices if model.name in each.problems), ""),
    )
