"""The queue: jobs and sessions in SQLite, which survive a restart and the end of any process.

A job that was accepted is in the table before its request is answered, and every change of its state is one
transaction that requires the state before, so that no job is finished twice.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resvox.server.jobs import CANCELLED, DONE, FAILED, OVER, QUEUED, RUNNING, STATES, Job, JobOptions, Outcome
from resvox.server.refusals import RefusedError

# The disk, or the queue on it (full, locked): such an error may pass, so threads that serve all jobs try again.
STORAGE_ERRORS = (sqlite3.Error, OSError)
TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL,
  options TEXT NOT NULL, created REAL NOT NULL, started REAL, finished REAL, attempts INTEGER NOT NULL DEFAULT 0,
  cancel INTEGER NOT NULL DEFAULT 0, device TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  kind TEXT NOT NULL DEFAULT '', outcome TEXT, bytes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS jobs_of_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, created REAL NOT NULL, used REAL NOT NULL, expiry REAL NOT NULL, bytes INTEGER NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A scan that a MONAI Label client has uploaded; it is removed ``expiry`` seconds after it was last used."""

    id: str
    created: float
    used: float
    expiry: float
    bytes: int


class Store:
    """The queue of one server; safe to use from all its threads.

    Args:
        path: the SQLite file.
        max_queue: jobs that may wait.
    """

    def __init__(self, path: Path, *, max_queue: int) -> None:
        self.max_queue = max_queue
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power failure
        self._db.executescript(TABLES)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back itself after some errors
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # ------------------------------------------------------------------------------------------ jobs

    def check_queue(self) -> None:
        """Refuse a job where the queue is full.

        Raises:
            RefusedError: with the status 429.
        """
        waiting = self.counts()[QUEUED]
        if waiting >= self.max_queue:
            raise RefusedError(
                f"{waiting} jobs are waiting",
                expected=f"fewer than {self.max_queue}",
                fix="try again later",
                status=429,
            )

    def add(self, job_id: str, model: str, options: JobOptions, size: int) -> Job:
        """Put a job into the queue; its files are in place.

        Raises:
            RefusedError: the queue is full.
        """
        with self._change() as db:
            self.check_queue()
            db.execute(
                "INSERT INTO jobs (id, model, state, options, created, bytes) VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, model, QUEUED, options.to_json(), time.time(), size),
            )
            return self.job(job_id)  # within the transaction: a job that cannot be read back was not added

    def find(self, job_id: str) -> Job | None:
        """A job, or None."""
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return Job.from_row(rows[0]) if rows else None

    def job(self, job_id: str) -> Job:
        """A job that must exist."""
        found = self.find(job_id)
        if found is None:
            raise KeyError(job_id)
        return found

    def jobs(self, *, limit: int, offset: int = 0, state: str | None = None) -> list[Job]:
        """Jobs, the newest first."""
        where, values = ("WHERE state = ?", [state]) if state is not None else ("", [])
        rows = self._rows(f"SELECT * FROM jobs {where} ORDER BY number DESC LIMIT ? OFFSET ?", (*values, limit, offset))
        return [Job.from_row(row) for row in rows]

    def ids(self) -> set[str]:
        """Identifiers of all jobs."""
        return {row["id"] for row in self._rows("SELECT id FROM jobs")}

    def place(self, job: Job) -> int:
        """How many jobs wait before one."""
        rows = self._rows(
            "SELECT COUNT(*) AS count FROM jobs WHERE state = ? AND number < (SELECT number FROM jobs WHERE id = ?)",
            (QUEUED, job.id),
        )
        return int(rows[0]["count"])

    def claim(self, device: str, *, is_alone: bool) -> Job | None:
        """The oldest waiting job, running from now on.

        Args:
            is_alone: whether the worker does nothing else now. A job during which a worker has ended before runs
                alone, so that it takes no other with it.
        """
        with self._change() as db:
            row = db.execute("SELECT * FROM jobs WHERE state = ? ORDER BY number LIMIT 1", (QUEUED,)).fetchone()
            if row is None or (row["attempts"] and not is_alone):
                return None
            db.execute(
                "UPDATE jobs SET state = ?, device = ?, started = ? WHERE id = ?",
                (RUNNING, device, time.time(), row["id"]),
            )
            return self.job(row["id"])  # within the transaction: a job that cannot be read back still waits

    def finish(self, job_id: str, outcome: Outcome, size: int) -> bool:
        """A running job is done; False where it is not running (any more)."""
        return self._end(job_id, DONE, "", "", json.dumps(asdict(outcome)), size)

    def fail(self, job_id: str, reason: str, kind: str) -> bool:
        """A running job has failed."""
        return self._end(job_id, FAILED, reason, kind, None, 0)

    def cancelled(self, job_id: str) -> bool:
        """A running job has been cancelled."""
        return self._end(job_id, CANCELLED, "", "cancelled", None, 0)

    def _end(self, job_id: str, state: str, reason: str, kind: str, outcome: str | None, size: int) -> bool:
        with self._change() as db:
            done = db.execute(
                "UPDATE jobs SET state = ?, reason = ?, kind = ?, outcome = ?, finished = ?, bytes = ? "
                "WHERE id = ? AND state = ?",
                (state, reason, kind, outcome, time.time(), size, job_id, RUNNING),
            )
            return done.rowcount == 1

    def requeue(self, job_id: str, *, counts: bool) -> None:
        """A running job waits again; ``counts``: its worker ended during it."""
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET state = ?, started = NULL, device = '', attempts = attempts + ? "
                "WHERE id = ? AND state = ?",
                (QUEUED, int(counts), job_id, RUNNING),
            )

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once where it waits, by its worker where it runs."""
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET state = ?, kind = 'cancelled', finished = ?, bytes = 0 WHERE id = ? AND state = ?",
                (CANCELLED, time.time(), job_id, QUEUED),
            )
            db.execute("UPDATE jobs SET cancel = 1 WHERE id = ? AND state = ?", (job_id, RUNNING))
        return self.job(job_id)

    def remove(self, job_id: str) -> bool:
        """Remove a job that is over; False for others."""
        with self._change() as db:
            marks = ", ".join("?" * len(OVER))
            done = db.execute(f"DELETE FROM jobs WHERE id = ? AND state IN ({marks})", (job_id, *OVER))
            return done.rowcount == 1

    def running(self) -> list[Job]:
        """Jobs that run, or did when the last server ended."""
        return [Job.from_row(row) for row in self._rows("SELECT * FROM jobs WHERE state = ?", (RUNNING,))]

    def finished_before(self, moment: float) -> list[Job]:
        """Jobs that were over at a moment."""
        return [Job.from_row(row) for row in self._rows("SELECT * FROM jobs WHERE finished < ?", (moment,))]

    def counts(self) -> dict[str, int]:
        """How many jobs each state has."""
        found = {row["state"]: row["n"] for row in self._rows("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state")}
        return {state: found.get(state, 0) for state in STATES}

    def bytes(self) -> int:
        """What jobs and sessions hold on the disk."""
        return int(
            sum(
                self._rows(f"SELECT COALESCE(SUM(bytes), 0) AS n FROM {table}")[0]["n"]
                for table in ("jobs", "sessions")
            )
        )

    # ------------------------------------------------------------------------------------------ sessions

    def add_session(self, session_id: str, *, expiry: float, size: int) -> Session:
        """Note an uploaded scan."""
        now = time.time()
        with self._change() as db:
            db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (session_id, now, now, expiry, size))
        return Session(id=session_id, created=now, used=now, expiry=expiry, bytes=size)

    def session(self, session_id: str, *, use: bool = False) -> Session | None:
        """A session that has not expired; ``use`` makes it last longer."""
        now = time.time()
        with self._change() as db:
            row = db.execute("SELECT * FROM sessions WHERE id = ? AND used + expiry > ?", (session_id, now)).fetchone()
            if row is not None and use:
                db.execute("UPDATE sessions SET used = ? WHERE id = ?", (now, session_id))
        return None if row is None else Session(**dict(row))

    def remove_session(self, session_id: str) -> None:
        """Forget a session."""
        with self._change() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))

    def sessions(self, *, expired: bool = False) -> list[Session]:
        """All sessions, or those that have expired."""
        where, values = ("WHERE used + expiry <= ?", (time.time(),)) if expired else ("", ())
        return [Session(**dict(row)) for row in self._rows(f"SELECT * FROM sessions {where}", values)]
