"""A thread per device, which feeds and watches the worker process of that device.

The worker never touches the queue, and this thread never touches a scan.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from resvox.server.jobs import Job, Order
from resvox.server.logs import event, failure
from resvox.server.running import read_outcome
from resvox.server.settings import ServeSettings
from resvox.server.store import STORAGE_ERRORS
from resvox.server.worker import work

if TYPE_CHECKING:
    from resvox.server.scheduler import Scheduler

AHEAD = 3  # jobs in a worker: one is read, one computed, one written
TICK_S = 0.5
GRACE_S = 15.0  # until a worker that does not obey a cancellation is ended
LONGEST_PAUSE_S = 30.0  # between two starts of a worker that ends at once
RETRY_S = 1.0  # after an error of the disk or the queue


class Process(Protocol):
    """What is used of a `multiprocessing` process."""

    @property
    def sentinel(self) -> int:
        """What can be waited for."""

    @property
    def exitcode(self) -> int | None:
        """None while it runs; -N after signal N."""

    @property
    def pid(self) -> int | None:
        """The number of the process."""

    def start(self) -> None:
        """Start the process."""

    def kill(self) -> None:
        """End the process at once."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""

    def is_alive(self) -> bool:
        """Whether it runs."""


def spawn(pipe: Connection, settings: ServeSettings, device: str, lock: str) -> Process:
    """A worker as a fresh interpreter: CUDA does not survive a fork."""
    context = multiprocessing.get_context("spawn")
    return context.Process(target=work, args=(pipe, settings, device, lock), name=f"resvox {device}", daemon=True)


@dataclass
class _Flight:
    """A job in a worker.

    Args:
        settle: enters into the queue what has become of the job. It may be called again after an error: the job keeps
            running in the queue, and this flight stays, until it has succeeded.
    """

    job: Job
    started: float
    cancelled: float | None = None
    settle: Callable[[], object] | None = None


class Device(threading.Thread):
    """The thread of one device."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        super().__init__(name=f"device {name}", daemon=True)
        self.device, self.scheduler = name, scheduler
        self.flights: dict[str, _Flight] = {}
        self.process: Process | None = None
        self.pipe: Connection | None = None
        self.is_ready = False
        self.engines: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self._pause, self._next_start = 0.0, 0.0
        self._wake_in, self._wake_out = multiprocessing.Pipe(duplex=False)
        self._deadline: float | None = None

    def wake(self) -> None:
        """Look at the queue now."""
        with contextlib.suppress(OSError):
            self._wake_out.send_bytes(b"!")

    def stop(self, seconds: float) -> None:
        """Give out no more jobs; end when those in the worker are done, or after some seconds."""
        self._deadline = time.monotonic() + seconds
        self.wake()

    def run(self) -> None:
        """Feed and watch until `stop`; errors of the disk and the queue are waited out."""
        while self._deadline is None or (self.flights and time.monotonic() < self._deadline):
            # each on its own: a queue that cannot be read does not keep the worker from being listened to
            steps = (self._start_process, self._feed, self._listen, self._watch)
            tried = [self._attempt(step) for step in steps]
            if not self._settle() or not all(tried):
                time.sleep(RETRY_S)
        self._end()

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Whether a step succeeded; one that the disk or the queue prevented is tried again by the caller."""
        try:
            step()
        except STORAGE_ERRORS as error:
            failure("device waits for the disk", error, device=self.device)
            return False
        return True

    # ------------------------------------------------------------------------------------------ the process

    def _start_process(self) -> None:
        if self.process is not None or time.monotonic() < self._next_start or self._deadline is not None:
            return
        here, there = multiprocessing.Pipe()
        settings, folders = self.scheduler.settings, self.scheduler.folders
        lock = folders.root / f"worker-{self.device.replace(':', '-')}.lock"
        process = self.scheduler.spawn(there, settings, self.device, str(lock))
        process.start()
        there.close()
        self.process, self.pipe = process, here
        event("worker started", device=self.device)

    def _lost(self) -> None:
        """The worker has ended: its finished jobs will be done, the others wait again or have failed."""
        assert self.process is not None
        assert self.pipe is not None
        self._drain()
        self.process.join()
        code = self.process.exitcode
        self.pipe.close()
        was_ready, self.is_ready, self.process, self.pipe = self.is_ready, False, None, None
        self._pause = 0.0 if was_ready else min(max(2 * self._pause, 1.0), LONGEST_PAUSE_S)
        self._next_start = time.monotonic() + self._pause
        self.scheduler.metrics.worker_ends.labels(self.device).inc()
        self.scheduler.metrics.workers_up.labels(self.device).set(0)
        event("worker ended", level=logging.WARNING, device=self.device, code=code)
        for flight in self._unsettled():
            flight.settle = partial(self._settle_lost, flight.job, code)

    def _settle_lost(self, job: Job, code: int | None) -> None:
        scheduler = self.scheduler
        made = read_outcome(scheduler.folders.job(job.id))
        if made is not None:
            scheduler.done(job, made)
        elif scheduler.store.job(job.id).cancel:
            scheduler.was_cancelled(job)
        elif job.attempts + 1 >= scheduler.settings.max_attempts:
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            reason = (
                f"the worker process ended during this job {job.attempts + 1} times ({how}); expected a "
                "scan that it can hold; fix: check the scan, and the memory of the server"
            )
            scheduler.failed(job, reason, "crash")
        else:
            scheduler.again(job, counts=True)

    def _kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.join()

    # ------------------------------------------------------------------------------------------ the jobs

    def _unsettled(self) -> list[_Flight]:
        """The jobs of which it is not known what has become."""
        return [flight for flight in self.flights.values() if flight.settle is None]

    def _settle(self) -> bool:
        """Enter into the queue what has become of jobs; False where that has to be tried again."""
        is_well = True
        for flight in list(self.flights.values()):
            if flight.settle is None:
                continue
            if self._attempt(flight.settle):
                del self.flights[flight.job.id]
            else:
                is_well = False
        return is_well

    def _feed(self) -> None:
        while self.is_ready and self.pipe is not None and self._deadline is None and len(self.flights) < AHEAD:
            if any(flight.job.attempts for flight in self.flights.values()):
                return  # it runs alone
            job = self.scheduler.store.claim(self.device, is_alone=not self.flights)
            if job is None:
                return
            folder = str(self.scheduler.folders.job(job.id).resolve())
            self.flights[job.id] = _Flight(job=job, started=time.monotonic())
            event("job started", job=job.id, model=job.model, device=self.device, attempt=job.attempts + 1)
            with contextlib.suppress(OSError):  # the worker has just ended, which `_listen` notices
                self.pipe.send(("job", Order(id=job.id, model=job.model, folder=folder, options=job.options)))

    def _listen(self) -> None:
        watched: list[Any] = [self._wake_in]
        if self.process is not None and self.pipe is not None:
            watched += [self.pipe, self.process.sentinel]
        found = wait(watched, timeout=TICK_S)
        if self._wake_in in found:
            while self._wake_in.poll():
                self._wake_in.recv_bytes()
        if self.pipe in found:
            self._drain()
        if self.process is not None and not self.process.is_alive():
            self._lost()

    def _drain(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self.pipe is not None and self.pipe.poll():
                kind, *values = self.pipe.recv()
                self._take(kind, values)

    def _take(self, kind: str, values: list[Any]) -> None:
        scheduler = self.scheduler
        if kind == "loaded":
            self.engines, self.problems = values
            self.is_ready, self._pause = True, 0.0
            scheduler.metrics.workers_up.labels(self.device).set(1)
            event("worker ready", device=self.device, models=sorted(self.engines))
        elif kind == "progress":
            scheduler.progress[values[0]] = (values[1], values[2], values[3])
        elif kind in ("done", "failed", "cancelled"):
            flight = self.flights.get(values[0])
            if flight is None or flight.settle is not None:
                return
            if kind == "done":
                flight.settle = partial(scheduler.done, flight.job, values[1])
            elif kind == "failed":
                flight.settle = partial(scheduler.failed, flight.job, values[1], values[2])
            else:
                flight.settle = partial(scheduler.was_cancelled, flight.job)

    def _watch(self) -> None:
        """Pass on cancellations; end the worker for a job that takes too long or does not obey."""
        now, limit = time.monotonic(), self.scheduler.settings.job_minutes * 60
        for flight in self._unsettled():
            if self.pipe is not None and flight.cancelled is None and self.scheduler.store.job(flight.job.id).cancel:
                flight.cancelled = now
                with contextlib.suppress(OSError):
                    self.pipe.send(("cancel", flight.job.id))
            is_deaf = flight.cancelled is not None and now - flight.cancelled > GRACE_S
            if is_deaf or now - flight.started > limit:
                self._end_for(flight, is_late=not is_deaf)
                return  # the worker is gone; jobs behind this one, which waited as long, begin anew

    def _end_for(self, flight: _Flight, *, is_late: bool) -> None:
        """End the worker because of one job; the others wait again, and it counts against none of them."""
        self._kill()
        self._drain()
        if flight.settle is None:
            if is_late:
                reason = (
                    f"it took more than {self.scheduler.settings.job_minutes:g} minutes; "
                    "fix: a smaller scan, or raise job_minutes"
                )
                flight.settle = partial(self.scheduler.failed, flight.job, reason, "timeout")
            else:
                flight.settle = partial(self.scheduler.was_cancelled, flight.job)
        self._return_flights()
        if self.process is not None:
            self._lost()

    def _return_flights(self) -> None:
        for flight in self._unsettled():
            flight.settle = partial(self._settle_returned, flight.job)

    def _settle_returned(self, job: Job) -> None:
        made = read_outcome(self.scheduler.folders.job(job.id))
        if made is not None:
            self.scheduler.done(job, made)
        else:
            self.scheduler.again(job, counts=False)

    def _end(self) -> None:
        """Stop the worker; jobs that it has not finished wait for the next server."""
        if self.process is not None and self.pipe is not None:
            if not self.flights:
                with contextlib.suppress(OSError):
                    self.pipe.send(("stop",))
                self.process.join(5.0)
            if self.process.is_alive():
                self._kill()
            self._drain()
            self.pipe.close()
            self.is_ready, self.process, self.pipe = False, None, None
        self._return_flights()
        self._settle()  # what cannot be entered now is settled by the next server
