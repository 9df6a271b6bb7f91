"""Jobs: accepted, watched, cancelled, their results downloaded, removed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from resvox._version import __version__
from resvox.server.jobs import JobOptions
from resvox.server.routes.answers import (
    JobId,
    JobList,
    JobState,
    Limits,
    ServerState,
    job_state,
    model_state,
    refusals,
    service_of,
)
from resvox.volumes.formats import ending_of

router = APIRouter(tags=["jobs"])
Format = Literal["nii.gz", "nii", "seg.nrrd", "nrrd", "mha"]
Dicom = Literal["auto", "seg", "none"]
Kind = Literal["labels", "seg", "sidecar", "view", "report"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
LONGEST_WAIT_S = 30.0
SHORTEST_POLL_S, LONGEST_POLL_S = 0.01, 0.25
MEDIA = {
    "seg": "application/dicom", "sidecar": "application/json", "view": "text/html; charset=utf-8",
    "report": "application/zip",
}  # fmt: skip
# The page comes from a model's names and a scan; it gets no access to this origin.
VIEW_POLICY = "sandbox allow-scripts allow-downloads"


@router.get("/models", responses=refusals())
def list_models(request: Request) -> ServerState:
    """The models, and what uploads must keep to."""
    service = service_of(request)
    settings = service.settings
    return ServerState(
        version=__version__,
        models=[model_state(service, model) for model in service.models.values()],
        limits=Limits(
            max_upload_mb=settings.max_upload_mb,
            max_unpacked_mb=settings.max_unpacked_mb,
            max_megavoxels=settings.max_megavoxels,
            max_files=settings.max_files,
        ),
        has_dicomweb=bool(settings.dicomweb),
    )


@router.post("/jobs", status_code=202, responses=refusals(400, 404, 413, 422, 429, 503, 507))
def create_job(
    request: Request,
    files: Annotated[
        list[UploadFile],
        File(description="A scan: one image, one file per channel, a zip archive, or the files of a DICOM series."),
    ],
    model: Annotated[str, Form(description="A name of /models.", max_length=64)],
    format: Annotated[Format, Form(description="Of the label map.")] = "nii.gz",
    dicom: Annotated[Dicom, Form(description="Whether to write DICOM SEG; auto: where the scan is DICOM.")] = "auto",
    report: Annotated[bool, Form(description="Also make the interactive page and the report.")] = False,
    series: Annotated[str, Form(description="Of an archive with several series: UID or number.", max_length=64)] = "",
    push: Annotated[bool, Form(description="Send the SEG to the DICOMweb server.")] = False,
) -> JobState:
    """Upload a scan and queue a job."""
    service = service_of(request)
    options = JobOptions(format=format, dicom=dicom, report=report, series=series or None, push=push)
    job = service.submit(model, options, [(each.filename or "", each.file, each.size or 0) for each in files])
    return job_state(service, job)


class FetchRequest(BaseModel):
    """A job for a series of the DICOMweb server."""

    model: str = Field(max_length=64)
    series_uid: str = Field(max_length=64)
    study_uid: str = Field(default="", max_length=64)
    format: Format = "nii.gz"
    dicom: Dicom = "auto"
    report: bool = False
    push: bool = False


@router.post("/jobs/fetch", status_code=202, responses=refusals(400, 404, 413, 422, 429, 503, 507))
def create_job_of_series(request: Request, body: FetchRequest) -> JobState:
    """Queue a job for a series that the server fetches (QIDO-RS, WADO-RS); ``push`` stores the SEG there (STOW-RS)."""
    service = service_of(request)
    options = JobOptions(
        format=body.format,
        dicom=body.dicom,
        report=body.report,
        push=body.push,
        fetch=(body.study_uid, body.series_uid),
    )
    return job_state(service, service.submit(body.model, options, []))


@router.get("/jobs", responses=refusals(422))
def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    state: State | None = None,
) -> JobList:
    """Jobs, the newest first."""
    service = service_of(request)
    found = service.store.jobs(limit=limit, offset=offset, state=state)
    return JobList(jobs=[job_state(service, job) for job in found])


@router.get("/jobs/{job_id}", responses=refusals(404, 422))
async def read_job(
    request: Request,
    job_id: JobId,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for its end.")] = 0,
) -> JobState:
    """The state of a job."""
    service, end, pause = service_of(request), time.monotonic() + wait, SHORTEST_POLL_S
    job = await run_in_threadpool(service.job, job_id)
    while not job.is_over and time.monotonic() < end and not service.scheduler.is_stopping:
        # Waiting in a thread of the pool, 40 clients would hold all of them, and no other request would be answered.
        await asyncio.sleep(min(pause, max(end - time.monotonic(), 0)))
        pause = min(1.3 * pause, LONGEST_POLL_S)
        job = await run_in_threadpool(service.job, job_id)
    return await run_in_threadpool(job_state, service, job)


@router.post("/jobs/{job_id}/cancel", responses=refusals(404, 422))
def cancel_job(request: Request, job_id: JobId) -> JobState:
    """Cancel a job; one that runs ends at its next window, one that is over stays as it is."""
    service = service_of(request)
    return job_state(service, service.cancel(job_id))


@router.delete("/jobs/{job_id}", status_code=204, responses=refusals(404, 409, 422))
def delete_job(request: Request, job_id: JobId) -> Response:
    """Remove a job that is over, with its results."""
    service_of(request).remove(job_id)
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/files/{kind}",
    response_class=FileResponse,
    responses={
        **refusals(404, 409, 422),
        200: {
            "description": "The file.",
            "content": {media: {} for media in ("application/octet-stream", *MEDIA.values())},
        },
    },
)
def read_file(request: Request, job_id: JobId, kind: Kind) -> FileResponse:
    """Download the label map, the DICOM SEG, the names and volumes of the labels, the interactive page, the report."""
    path = service_of(request).file(job_id, kind)
    if kind == "view":
        return FileResponse(path, media_type=MEDIA[kind], headers={"Content-Security-Policy": VIEW_POLICY})
    return FileResponse(
        path,
        media_type=MEDIA.get(kind, "application/octet-stream"),
        filename=f"{kind}-{job_id[:8]}{ending_of(path) or Path(path).suffix}",
    )
