"""The queue: order, single completion, restart, limits."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from resvox.server.folders import FolderLock
from resvox.server.jobs import JobOptions, Outcome, new_id
from resvox.server.refusals import RefusedError
from resvox.server.store import Store

OPTIONS = JobOptions(format="nrrd", report=True, fetch=("", "1.2.3"), push=True)
OUTCOME = Outcome(files={"labels": ("scan.nii.gz", 10)}, notes=("a note",), seconds={"read": 0.1}, windows=3)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "queue.sqlite", max_queue=4)
    yield made
    made.close()


def test_a_job_is_what_it_was_after_a_restart(tmp_path, store):
    job = store.add(new_id(), "liver", OPTIONS, 123)
    store.claim("cpu", is_alone=True)
    store.finish(job.id, OUTCOME, 10)
    other = Store(tmp_path / "queue.sqlite", max_queue=4)
    found = other.job(job.id)
    assert (found.options, found.outcome, found.state, found.bytes) == (OPTIONS, OUTCOME, "done", 10)
    assert other.bytes() == 10
    other.close()


def test_the_oldest_job_is_next_and_a_job_that_ended_a_worker_runs_alone(store):
    first, second = (store.add(new_id(), "a", JobOptions(), 1) for _ in range(2))
    assert store.place(second) == 1
    assert store.claim("cpu", is_alone=False).id == first.id
    store.requeue(first.id, counts=True)
    assert store.claim("cpu", is_alone=False) is None
    assert store.claim("cpu", is_alone=True).id == first.id
    assert store.claim("cpu", is_alone=False).id == second.id


def test_a_job_is_over_once(store):
    job = store.add(new_id(), "a", JobOptions(), 1)
    assert not store.finish(job.id, OUTCOME, 1)  # it does not run yet
    store.claim("cpu", is_alone=True)
    assert store.finish(job.id, OUTCOME, 1)
    assert not store.finish(job.id, OUTCOME, 1)
    assert not store.fail(job.id, "late", "scan")
    assert store.cancel(job.id).state == "done"
    store.requeue(job.id, counts=True)
    assert store.job(job.id).state == "done"


class FailingDatabase:
    """The connection of a queue, of which the next statement that begins with ``failing`` raises."""

    def __init__(self, database: sqlite3.Connection, failing: str) -> None:
        self.database, self.failing = database, failing

    def __getattr__(self, name):
        return getattr(self.database, name)

    def execute(self, statement, *values):
        if self.failing and statement.startswith(self.failing):
            self.failing = ""
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(statement, *values)


def test_a_commit_that_fails_leaves_no_transaction_open(store):
    store._db = FailingDatabase(store._db, "COMMIT")
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        store.add(new_id(), "a", JobOptions(), 1)
    job = store.add(new_id(), "a", JobOptions(), 1)
    assert [each.id for each in store.jobs(limit=5)] == [job.id]


def test_a_job_that_cannot_be_read_back_is_not_claimed(store):
    """It would run in no worker, and be waited for until the next start."""
    job = store.add(new_id(), "a", JobOptions(), 1)
    store._db = FailingDatabase(store._db, "SELECT * FROM jobs WHERE id")
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        store.claim("cpu", is_alone=True)
    assert store.job(job.id).state == "queued"
    store._db = FailingDatabase(store._db, "SELECT * FROM jobs WHERE id")
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        store.add(new_id(), "a", JobOptions(), 1)
    assert [each.id for each in store.jobs(limit=5)] == [job.id]


def test_claims_of_many_threads_never_share_a_job(tmp_path):
    store = Store(tmp_path / "queue.sqlite", max_queue=100)
    wanted = {store.add(new_id(), "a", JobOptions(), 1).id for _ in range(40)}
    taken = []

    def take():
        while (job := store.claim("cpu", is_alone=False)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    store.close()
    assert len(taken) == 40
    assert set(taken) == wanted


def test_a_full_queue_refuses(store):
    for _ in range(4):
        store.add(new_id(), "a", JobOptions(), 1)
    with pytest.raises(RefusedError, match="4 jobs are waiting") as caught:
        store.add(new_id(), "a", JobOptions(), 1)
    assert caught.value.status == 429
    assert store.counts()["queued"] == 4


def test_only_a_job_that_is_over_is_removed(store):
    job = store.add(new_id(), "a", JobOptions(), 1)
    assert not store.remove(job.id)
    assert store.cancel(job.id).state == "cancelled"
    assert store.remove(job.id)
    assert store.find(job.id) is None


def test_a_session_expires_after_its_last_use(store):
    store.add_session("a", expiry=1000, size=5)
    store.add_session("b", expiry=-1, size=5)
    assert store.session("a", use=True).bytes == 5
    assert store.session("b") is None
    assert [each.id for each in store.sessions(expired=True)] == ["b"]


def test_a_lock_is_held_by_one(tmp_path):
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take(wait_s=5)
    second.release()


@pytest.mark.parametrize(
    "values",
    [{"format": "none"}, {"dicom": "rtstruct"}, {"series": "../x"}, {"fetch": ("", "1.2/../..")}, {"fetch": ("", "")},
     {"push": True, "dicom": "none"}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(values):
    with pytest.raises(RefusedError):
        JobOptions(**values)
