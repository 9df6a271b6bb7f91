"""Jobs are given to the devices of a server, and what a worker's end leaves is queued again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from resvox.server.devices import Device, Process, spawn
from resvox.server.folders import FETCHED, RESULT, UPLOAD, WORK, Folders, remove, size_of
from resvox.server.jobs import Job, Outcome
from resvox.server.logs import event
from resvox.server.metrics import Metrics
from resvox.server.running import read_outcome
from resvox.server.settings import ServeSettings
from resvox.server.store import Store


class Scheduler:
    """The devices of one server, and what becomes of its jobs.

    Args:
        spawn: makes a worker process.
    """

    def __init__(
        self,
        settings: ServeSettings,
        store: Store,
        folders: Folders,
        metrics: Metrics,
        spawn: Callable[[Connection, ServeSettings, str, str], Process] = spawn,
    ) -> None:
        self.settings, self.store, self.folders, self.metrics, self.spawn = settings, store, folders, metrics, spawn
        self.progress: dict[str, tuple[str, int, int]] = {}
        self.devices = [Device(name, self) for name in settings.devices]
        self.is_stopping = False

    def start(self) -> None:
        """Settle what the last server left, then start the devices."""
        for job in self.store.running():
            made = read_outcome(self.folders.job(job.id))
            if made is not None:
                self.done(job, made)
            elif job.cancel:
                self.was_cancelled(job)
            else:
                self.again(job, counts=False)
        for device in self.devices:
            device.start()

    def stop(self, seconds: float) -> None:
        """Stop giving out jobs at once; returns at once."""
        if not self.is_stopping:
            self.is_stopping = True
            for device in self.devices:
                device.stop(seconds)

    def join(self) -> None:
        """Wait until all workers have ended."""
        for device in self.devices:
            if device.ident is not None:
                device.join()

    def wake(self) -> None:
        """A job was added or cancelled."""
        for device in self.devices:
            device.wake()

    @property
    def is_ready(self) -> bool:
        """Whether a worker takes jobs."""
        return any(device.is_ready and device.is_alive() for device in self.devices) and not self.is_stopping

    def done(self, job: Job, outcome: Outcome) -> None:
        """A job's result folder is complete."""
        folder = self.folders.job(job.id)
        size = size_of(folder / RESULT)
        if self.store.finish(job.id, outcome, size):
            self._over(job, "done", "")
            for stage, spent in outcome.seconds.items():
                self.metrics.stage_seconds.labels(stage).observe(spent)

    def failed(self, job: Job, reason: str, kind: str) -> None:
        """A job cannot be done."""
        if self.store.fail(job.id, reason, kind):
            self._over(job, "failed", kind)

    def was_cancelled(self, job: Job) -> None:
        """A job was cancelled while it ran."""
        if self.store.cancelled(job.id):
            self._over(job, "cancelled", "cancelled")

    def again(self, job: Job, *, counts: bool) -> None:
        """A job waits again."""
        self.progress.pop(job.id, None)
        remove(self.folders.job(job.id) / WORK)  # first: once the job waits, the worker of another device may take it
        self.store.requeue(job.id, counts=counts)
        event("job queued again", job=job.id, attempts=job.attempts + int(counts))

    def _over(self, job: Job, state: str, kind: str) -> None:
        self.progress.pop(job.id, None)
        self.clear(self.folders.job(job.id))
        spent = time.time() - (job.started or job.created)
        self.metrics.jobs.labels(state, kind).inc()
        self.metrics.job_seconds.observe(spent)
        event("job over", job=job.id, model=job.model, state=state, kind=kind, seconds=round(spent, 3))

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove what a job that is over needs no more; its folder too, where there is no result."""
        for part in (UPLOAD, WORK, FETCHED):
            remove(folder / part)
        with contextlib.suppress(OSError):  # it holds a result
            os.rmdir(folder)
