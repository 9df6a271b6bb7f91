"""The part of MONAI Label's protocol with which its 3D Slicer and OHIF extensions run a model.

Followed: the endpoints and ``client.py`` of MONAI Label 0.8.5. Models and sessions are offered; training, active
learning and a datastore are not.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from resvox._version import __version__
from resvox.server.guard import is_token
from resvox.server.jobs import LABEL_FORMATS, UID, Job, JobOptions
from resvox.server.refusals import RefusedError, not_found
from resvox.server.routes.answers import refusals, service_of
from resvox.server.service import Service
from resvox.server.store import Session

router = APIRouter(tags=["MONAI Label"])
EXTENSIONS = {f".{name}": name for name in LABEL_FORMATS}
SESSION_ID = "^[0-9a-f]{32}$"
SHORTEST_POLL_S, LONGEST_POLL_S = 0.02, 0.25


class Output(str, Enum):
    """What ``/infer`` answers."""

    all = "all"
    image = "image"
    json = "json"
    dicom_seg = "dicom_seg"


@router.get("/info/", responses=refusals())
def info(request: Request) -> dict[str, Any]:
    """What the server offers."""
    models = service_of(request).models
    return {
        "name": "resvox",
        "description": "Segmentation by resvox",
        "version": __version__,
        "labels": sorted({label for model in models.values() for label in model.labels}),
        "models": {
            model.name: {
                "type": "segmentation",
                "labels": model.labels,
                "dimension": model.card.spatial_dims,
                "description": f"{model.name}: {', '.join(model.labels)}"[:500],
                "config": {},
            }
            for model in models.values()
        },
        **{name: {} for name in ("trainers", "strategies", "scoring", "train_stats", "datastore", "config")},
    }


@router.get("/auth/", responses=refusals())
def auth(request: Request) -> dict[str, Any]:
    """Whether a token is needed."""
    return {"enabled": bool(service_of(request).settings.token), "client_id": "", "realm": ""}


@router.post("/auth/token", responses=refusals(400, 413, 422))
def auth_token(
    request: Request,
    password: Annotated[str, Form(max_length=1000, description="The server's token.")],
    username: Annotated[str, Form(max_length=1000)] = "",
) -> dict[str, str | None]:
    """The token for a name and the token as password, which is how the extensions log in."""
    token = service_of(request).settings.token
    if not token:
        return {"access_token": None, "token_type": None}
    if not is_token(password, token):
        raise RefusedError("not the token of this server", expected="it as password", status=401)
    return {"access_token": token, "token_type": "bearer"}


@router.get("/auth/token/valid", responses=refusals())
def auth_valid() -> dict[str, str]:
    """200 where the token of the request is valid."""
    return {"username": "user"}


@router.put("/session/", responses=refusals(400, 413, 422, 507))
def create_session(
    request: Request,
    files: Annotated[list[UploadFile], File(description="A scan; several files are one DICOM series.")],
    uncompress: bool = False,
    expiry: Annotated[int, Query(ge=0, le=1_000_000, description="Seconds; 0 takes the server's.")] = 0,
) -> dict[str, Any]:
    """Upload a scan for several inferences. Archives are unpacked with or without ``uncompress``."""
    service = service_of(request)
    session = service.add_session([(each.filename or "", each.file, each.size or 0) for each in files], expiry)
    return {"session_id": session.id, "session_info": _session_info(session)}


@router.get("/session/{session_id}", responses=refusals(404, 422))
def read_session(request: Request, session_id: str, update_ts: bool = False) -> dict[str, Any]:
    """A session that has not expired."""
    return _session_info(service_of(request).session(session_id, use=update_ts))


@router.delete("/session/{session_id}", responses=refusals(404, 422))
def delete_session(request: Request, session_id: str) -> dict[str, Any]:
    """Remove a session with its scan."""
    return _session_info(service_of(request).remove_session(session_id))


def _session_info(session: Session) -> dict[str, Any]:
    return {
        "name": session.id,
        "image": session.id,
        "meta": {},
        "create_ts": int(session.created),
        "last_access_ts": int(session.used),
        "expiry": int(session.expiry),
    }


@router.get("/train/", status_code=404, responses=refusals(404), response_model=None)
def train() -> JSONResponse:
    """Training is not offered: clients take 404 as "not running"."""
    return JSONResponse({"detail": "no training is running"}, status_code=404)


@router.post(
    "/infer/{model}",
    response_class=Response,
    responses={
        **refusals(400, 404, 413, 422, 429, 502, 503, 507),
        200: {
            "description": "The label map and its labels.",
            "content": {"multipart/form-data": {}, "application/json": {}, "application/octet-stream": {},
                        "application/dicom": {}},
        },
    },
)  # fmt: skip
async def infer(
    request: Request,
    model: str,
    image: Annotated[str, Query(max_length=200, description="SeriesInstanceUID on the DICOMweb server.")] = "",
    session_id: Annotated[str, Query(max_length=64)] = "",
    output: Output | None = None,
    params: Annotated[str, Form(max_length=100_000, description="JSON; result_extension is used.")] = "{}",
    file: Annotated[UploadFile | None, File(description="The scan, instead of a session.")] = None,
) -> Response:
    """Run a model and wait for its result. A client that goes away cancels the job."""
    service, wanted = service_of(request), output or Output.all
    options = _options(params, wanted, image if not session_id and file is None else "")
    job = await run_in_threadpool(_submit, service, model, options, session_id, file)
    try:
        job = await _wait(request, service, job)
        if job.state != "done":
            raise RefusedError(
                job.reason or f"the job was {job.state}", status=503 if job.state == "cancelled" else 422
            )
        return await run_in_threadpool(_answer, service, job, wanted)
    finally:
        await run_in_threadpool(_forget, service, job.id)


def _options(params: str, output: Output, image: str) -> JobOptions:
    try:
        given = json.loads(params or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RefusedError("params that are not a JSON object", expected='such as {"result_extension": ".nrrd"}')
    extension = given.get("result_extension", ".nii.gz")
    if not isinstance(extension, str) or extension not in EXTENSIONS:
        raise RefusedError(f"result_extension={str(extension)[:40]!r}", expected=", ".join(EXTENSIONS))
    if image and not UID.fullmatch(image):
        raise RefusedError(
            "an image that is not a SeriesInstanceUID",
            expected="a session, a file, or a series of the DICOMweb server",
            status=404,
        )
    return JobOptions(
        format=EXTENSIONS[extension],
        dicom="seg" if output is Output.dicom_seg else "none",
        fetch=("", image) if image else None,
    )


def _submit(service: Service, model: str, options: JobOptions, session_id: str, file: UploadFile | None) -> Job:
    if session_id:
        return service.submit_session(model, options, service.session(session_id, use=True))
    if file is not None:
        return service.submit(model, options, [(file.filename or "", file.file, file.size or 0)])
    service.model(model)
    if options.fetch is None:
        raise RefusedError("no scan", expected="session_id, a file, or image with a SeriesInstanceUID")
    if not service.settings.dicomweb:
        raise not_found("image")
    return service.submit(model, options, [])


async def _wait(request: Request, service: Service, job: Job) -> Job:
    pause = SHORTEST_POLL_S
    while not job.is_over:
        if await request.is_disconnected() or service.scheduler.is_stopping:
            await run_in_threadpool(service.cancel, job.id)
        await asyncio.sleep(pause)
        pause = min(1.3 * pause, LONGEST_POLL_S)
        job = await run_in_threadpool(service.job, job.id)
    return job


def _forget(service: Service, job_id: str) -> None:
    """Remove the job: its client has the result, or is gone."""
    job = service.store.find(job_id)
    if job is not None and not job.is_over:
        job = service.cancel(job_id)
    if job is not None and job.is_over:
        service.remove(job_id)


def _answer(service: Service, job: Job, output: Output) -> Response:
    labels = service.model(job.model).labels
    assert job.outcome is not None
    described = {"label_names": labels, "latencies": job.outcome.seconds, "model": job.model}
    if output is Output.json:
        return JSONResponse(described)
    kind = "seg" if output is Output.dicom_seg else "labels"
    path = service.file(job.id, kind)
    content = path.read_bytes()
    if output is not Output.all:
        media = "application/dicom" if kind == "seg" else "application/octet-stream"
        return Response(
            content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{_name(path)}"'}
        )
    return _multipart(json.dumps(described).encode(), content, _name(path))


def _name(path: Path) -> str:
    """A new name for each answer, as clients keep all in one folder."""
    stem, _, ending = path.name.partition(".")
    return f"{stem}-{secrets.token_hex(4)}.{ending}"


def _multipart(described: bytes, content: bytes, name: str) -> Response:
    mark = secrets.token_hex(16)
    head = 'Content-Disposition: form-data; name="{}"{}\r\nContent-Type: {}\r\n\r\n'
    body = b"".join(
        [
            f"--{mark}\r\n".encode(),
            head.format("params", "", "application/json").encode(),
            described,
            f"\r\n--{mark}\r\n".encode(),
            head.format("image", f'; filename="{name}"', "application/octet-stream").encode(),
            content,
            f"\r\n--{mark}--\r\n".encode(),
        ]
    )
    return Response(body, media_type=f"multipart/form-data; boundary={mark}")
