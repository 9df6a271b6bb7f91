"""Workers that end: their jobs run again, a job that ends them again and again fails, and a result counts once."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe

import pytest
from server.toy import until

from resvox.server import devices
from resvox.server.folders import RESULT, WORK, Folders
from resvox.server.jobs import JobOptions, Outcome, new_id
from resvox.server.metrics import Metrics
from resvox.server.running import OUTCOME
from resvox.server.scheduler import Scheduler
from resvox.server.settings import ServeSettings
from resvox.server.store import Store

MADE = Outcome(files={"labels": ("scan.nii.gz", 3)})


def complete(folder):
    """What a worker leaves of a job that it has done."""
    (folder / RESULT).mkdir(parents=True)
    (folder / RESULT / "scan.nii.gz").write_bytes(b"abc")
    (folder / RESULT / OUTCOME).write_text(json.dumps(asdict(MADE)))


class ScriptedProcess:
    """A worker that does with each job what the test's function does; "end" ends the process."""

    pid = None

    def __init__(self, pipe: Connection, settings, device: str, lock: str, act) -> None:
        import os

        self.pipe = Connection(os.dup(pipe.fileno()))
        self.act, self.exitcode = act, None
        self._end, self._ended = Pipe(duplex=False)
        self.sentinel = self._end.fileno()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.pipe.send(("loaded", {"m": "scripted"}, {}))
        while self.exitcode is None:
            if not self.pipe.poll(0.01):
                continue
            try:
                kind, *values = self.pipe.recv()
            except (EOFError, OSError):
                break
            if kind == "stop":
                self._finish(0)
            elif kind == "job":
                message = self.act(values[0])
                if message == "end":
                    self._finish(-9)
                elif message is not None:
                    self.pipe.send(message)
            elif kind == "cancel" and self.act.__name__ != "deaf":
                self.pipe.send(("cancelled", values[0]))

    def _finish(self, code: int) -> None:
        if self.exitcode is None:
            self.exitcode = code
            self.pipe.close()
            self._ended.close()

    def start(self) -> None:
        self.thread.start()

    def kill(self) -> None:
        self._finish(-9)

    def join(self, timeout=None) -> None:
        self.thread.join(timeout)

    def is_alive(self) -> bool:
        return self.exitcode is None


class FailingDatabase:
    """A queue on a full disk: statements of the threads of devices that begin with ``failing`` raise."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database, self.failing, self.failures = database, "", 0

    def __getattr__(self, name):
        return getattr(self.database, name)

    def execute(self, statement, *values):
        is_device = threading.current_thread().name.startswith("device")
        if is_device and self.failing and statement.startswith(self.failing):
            self.failures += 1
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(statement, *values)


@pytest.fixture
def begin(tmp_path):
    """A function that starts a scheduler whose workers act as given, and returns (scheduler, submit)."""
    running = []

    def start(act, **settings):
        made = ServeSettings(data=str(tmp_path / "data"), devices=("cpu",), **settings)
        folders = Folders(made.folder)
        folders.make()
        store = Store(folders.queue, max_queue=50)
        scheduler = Scheduler(
            made, store, folders, Metrics(), spawn=lambda *arguments: ScriptedProcess(*arguments, act=act)
        )
        running.append((scheduler, store))

        def submit():
            job_id = new_id()
            folders.job(job_id).mkdir()
            store.add(job_id, "m", JobOptions(), 1)
            scheduler.wake()
            return job_id

        return scheduler, submit

    yield start
    for scheduler, store in running:
        scheduler.stop(0)
        scheduler.join()
        store.close()


def states(scheduler, jobs):
    return [scheduler.store.job(job).state for job in jobs]


def test_a_job_that_ends_its_worker_fails_and_the_others_are_done(begin):
    bad = []

    def act(order):
        if order.id in bad:
            return "end"
        return ("done", order.id, MADE)

    scheduler, submit = begin(act, max_attempts=2)
    jobs = [submit() for _ in range(7)]
    bad.append(jobs[2])
    scheduler.start()
    until(lambda: all(scheduler.store.job(job).is_over for job in jobs))
    assert states(scheduler, jobs) == ["done", "done", "failed", "done", "done", "done", "done"]
    failed = scheduler.store.job(jobs[2])
    assert "ended during this job 2 times (signal 9)" in failed.reason
    assert failed.kind == "crash"


def test_a_result_that_is_complete_is_done_though_its_worker_ended_before_it_could_report(begin):
    runs = []

    def act(order):
        runs.append(order.id)
        complete(scheduler.folders.job(order.id))
        return "end"

    scheduler, submit = begin(act)
    job = submit()
    scheduler.start()
    until(lambda: scheduler.store.job(job).is_over)
    assert states(scheduler, [job]) == ["done"]
    assert runs == [job]


def test_what_a_killed_server_left_is_settled_by_the_next_one(begin):
    runs = []

    def act(order):
        runs.append(order.id)
        return ("done", order.id, MADE)

    scheduler, submit = begin(act)
    finished, begun, cancelled, waiting = (submit() for _ in range(4))
    for _ in range(3):
        scheduler.store.claim("cpu", is_alone=True)  # running, though no process runs them
    complete(scheduler.folders.job(finished))
    scheduler.store.cancel(cancelled)
    scheduler.start()
    until(lambda: all(scheduler.store.job(job).is_over for job in (finished, begun, cancelled, waiting)))
    assert states(scheduler, [finished, begun, cancelled, waiting]) == ["done", "done", "cancelled", "done"]
    assert runs == [begun, waiting]
    assert scheduler.store.job(begun).attempts == 0


def test_a_job_that_takes_too_long_is_ended_and_counts_against_no_other(begin):
    slow, seen = [], []

    def deaf(order):
        seen.append(order.id)
        return None if order.id in slow else ("done", order.id, MADE)

    scheduler, submit = begin(deaf, job_minutes=0.5 / 60)
    jobs = [submit() for _ in range(3)]
    slow.append(jobs[0])
    scheduler.start()
    until(lambda: all(scheduler.store.job(job).is_over for job in jobs))
    assert states(scheduler, jobs) == ["failed", "done", "done"]
    assert scheduler.store.job(jobs[0]).kind == "timeout"
    assert [scheduler.store.job(job).attempts for job in jobs] == [0, 0, 0]


def test_jobs_behind_one_that_takes_too_long_are_run_again(begin):
    """They have been in the worker for as long, so that the limit has passed for all of them at once."""
    seen = []

    def deaf(order):
        seen.append(order.id)
        return None if order.id == jobs[0] or seen.count(order.id) == 1 else ("done", order.id, MADE)

    scheduler, submit = begin(deaf, job_minutes=1 / 60)
    jobs = [submit() for _ in range(3)]
    scheduler.start()
    until(lambda: all(scheduler.store.job(job).is_over for job in jobs), 30)
    assert states(scheduler, jobs) == ["failed", "done", "done"]
    assert [scheduler.store.job(job).attempts for job in jobs] == [0, 0, 0]


@pytest.mark.parametrize("statement", ["BEGIN", "UPDATE", "COMMIT", "SELECT"])
def test_a_queue_that_fails_for_a_while_loses_no_job_and_repeats_none(begin, monkeypatch, statement):
    monkeypatch.setattr(devices, "RETRY_S", 0.01)
    runs = []

    def act(order):
        runs.append(order.id)
        if len(runs) == 1:
            database.failing = statement
        return ("done", order.id, MADE)

    scheduler, submit = begin(act)
    database = scheduler.store._db = FailingDatabase(scheduler.store._db)
    jobs = [submit() for _ in range(4)]
    scheduler.start()
    until(lambda: database.failures > 3, 30)
    assert scheduler.is_ready
    database.failing = ""
    until(lambda: all(scheduler.store.job(job).is_over for job in jobs), 30)
    assert states(scheduler, jobs) == ["done"] * 4
    assert runs == jobs
    assert [scheduler.store.job(job).attempts for job in jobs] == [0] * 4


def test_a_job_whose_worker_ends_while_the_queue_fails_runs_again(begin, monkeypatch):
    monkeypatch.setattr(devices, "RETRY_S", 0.01)
    runs = []

    def act(order):
        runs.append(order.id)
        if len(runs) == 1:
            database.failing = "BEGIN"
            return "end"
        return ("done", order.id, MADE)

    scheduler, submit = begin(act)
    database = scheduler.store._db = FailingDatabase(scheduler.store._db)
    job = submit()
    scheduler.start()
    until(lambda: database.failures > 3, 30)
    database.failing = ""
    until(lambda: scheduler.store.job(job).is_over, 30)
    assert states(scheduler, [job]) == ["done"]
    assert runs == [job, job]
    assert scheduler.store.job(job).attempts == 1


def test_what_a_worker_left_is_removed_before_the_job_waits_again(begin, monkeypatch):
    """Once it waits, the worker of another device may take it and write there."""
    scheduler, submit = begin(lambda order: None)
    job, left, requeue = submit(), [], scheduler.store.requeue
    work = scheduler.folders.job(job) / WORK
    work.mkdir()

    def watched(job_id, *, counts):
        left.append(work.exists())
        requeue(job_id, counts=counts)

    monkeypatch.setattr(scheduler.store, "requeue", watched)
    scheduler.again(scheduler.store.claim("cpu", is_alone=True), counts=False)
    assert left == [False]
    assert states(scheduler, [job]) == ["queued"]


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "7", '{"files": {"labels": 3}}', '{"files": {}, "other": 1}',
     '{"files": {"a": ["b", 1e999]}}', '{"files": {}, "notes": [], "seconds": null}',
     '{"files": {}, "notes": [], "seconds": {"read": null}}', '{"files": {}, "notes": [], "volumes_ml": {"a": "b"}}'],
)  # fmt: skip
def test_a_result_whose_outcome_cannot_be_read_is_computed_again(begin, content):
    runs = []

    def act(order):
        folder = scheduler.folders.job(order.id)
        runs.append(order.id)
        complete(folder)
        if len(runs) == 1:
            (folder / RESULT / OUTCOME).unlink()
            if content is not None:
                (folder / RESULT / OUTCOME).write_text(content)
        return "end"

    scheduler, submit = begin(act)
    job = submit()
    scheduler.start()
    until(lambda: scheduler.store.job(job).is_over, 30)
    assert states(scheduler, [job]) == ["done"]
    assert runs == [job, job]
    assert scheduler.devices[0].is_alive()


def test_a_result_without_an_outcome_is_computed_again_after_a_restart(begin):
    runs = []

    def act(order):
        runs.append(order.id)
        complete(scheduler.folders.job(order.id))
        return ("done", order.id, MADE)

    scheduler, submit = begin(act)
    job = submit()
    scheduler.store.claim("cpu", is_alone=True)
    (scheduler.folders.job(job) / RESULT).mkdir(parents=True)
    scheduler.start()
    until(lambda: scheduler.store.job(job).is_over, 30)
    assert states(scheduler, [job]) == ["done"]
    assert runs == [job]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_whose_thread_has_ended_is_not_ready(begin, monkeypatch):
    def act(order):
        return None

    def broken():
        raise RuntimeError("a fault of this library")

    scheduler, _ = begin(act)
    scheduler.start()
    until(lambda: scheduler.is_ready)
    device = scheduler.devices[0]
    monkeypatch.setattr(device, "_watch", broken)
    until(lambda: not device.is_alive())
    device.process.kill()
    assert device.is_ready
    assert not scheduler.is_ready


def test_a_stop_returns_what_is_running_to_the_queue(begin):
    def act(order):
        return None

    scheduler, submit = begin(act)
    jobs = [submit() for _ in range(5)]
    scheduler.start()
    until(lambda: states(scheduler, jobs).count("running") == 3)
    scheduler.stop(0)
    scheduler.join()
    assert states(scheduler, jobs) == ["queued"] * 5
    assert [scheduler.store.job(job).attempts for job in jobs] == [0] * 5


def test_a_stop_waits_for_what_is_running(begin):
    release = threading.Event()

    def act(order):
        release.wait(30)
        return ("done", order.id, MADE)

    scheduler, submit = begin(act)
    jobs = [submit() for _ in range(5)]
    scheduler.start()
    until(lambda: states(scheduler, jobs).count("running") == 3)
    scheduler.stop(30)
    release.set()
    scheduler.join()
    assert states(scheduler, jobs) == ["done"] * 3 + ["queued"] * 2
