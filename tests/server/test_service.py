"""A service under clients that wait, and under errors of its queue."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import anyio.to_thread
import pytest
from server.toy import until, write_scan

from resvox.server import service as service_module
from resvox.server.app import build_app
from resvox.server.jobs import JobOptions
from resvox.server.service import Service
from resvox.server.settings import ServeSettings


@pytest.fixture
def service(models, tmp_path):
    """A service that has not been started: its jobs wait."""
    made = Service(ServeSettings(models=(str(models / "one"),), data=str(tmp_path / "data"), devices=("cpu",)))
    yield made
    made.stop()


async def answered(app, method, path, query=b""):
    """The status and the JSON of an answer, by ASGI."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


def test_clients_that_wait_for_a_job_hold_no_thread(service, tmp_path):
    async def ask(job):
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1  # 40 in a server
        app = build_app(service)
        waiting = [asyncio.create_task(answered(app, "GET", f"/jobs/{job}", b"wait=30")) for _ in range(3)]
        await asyncio.sleep(0.2)
        for path, wanted in (("/healthz", 503), ("/models", 200)):
            status, _ = await asyncio.wait_for(answered(app, "GET", path), 20)
            assert status == wanted, path
        assert not any(each.done() for each in waiting)
        await answered(app, "POST", f"/jobs/{job}/cancel")
        return [(await each)[1]["state"] for each in waiting]

    with write_scan(tmp_path / "scan.nii.gz").open("rb") as scan:
        job = service.submit("one", JobOptions(), [("scan.nii.gz", scan, 1)])
    assert asyncio.run(ask(job.id)) == ["cancelled"] * 3


def test_the_health_is_answered_without_a_thread(service):
    async def ask():
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:  # as requests that wait for a slow disk do
            return await asyncio.wait_for(answered(build_app(service), "GET", "/healthz"), 20)

    assert asyncio.run(ask())[0] == 503


def test_the_sweep_goes_on_after_an_error_of_the_queue(service, monkeypatch):
    sweeps = []

    def failing():
        sweeps.append(1)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(service_module, "SWEEP_S", 0.01)
    monkeypatch.setattr(service, "sweep", failing)
    service._sweeper.start()
    until(lambda: len(sweeps) > 2, 20)
