"""The data folder: one folder for each job and session, and locks that the operating system gives back.

Names of folders are identifiers that this server made. What a killed process has left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from resvox.server.refusals import RefusedError, SettingsError

UPLOAD, WORK, RESULT = "upload", "work", "result"  # of a job
FETCHED = "fetched"
MB, GB = 1e6, 1e9


@dataclass(frozen=True)
class Folders:
    """The parts of the data folder."""

    root: Path

    @property
    def queue(self) -> Path:
        """The SQLite file."""
        return self.root / "queue.sqlite"

    @property
    def spool(self) -> Path:
        """Uploads that are being received."""
        return self.root / "spool"

    def job(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.root / "jobs" / job_id

    def session(self, session_id: str) -> Path:
        """The folder of a session."""
        return self.root / "sessions" / session_id

    def make(self) -> None:
        """Make the folders, readable by this user alone.

        Raises:
            SettingsError: they cannot be made.
        """
        try:
            for path in (self.root, self.spool, self.root / "jobs", self.root / "sessions"):
                path.mkdir(parents=True, exist_ok=True)
            os.chmod(self.root, 0o700)
        except OSError as error:
            raise SettingsError(
                f"cannot be made ({error.strerror})", expected="a folder that can be written to", path=self.root
            ) from None

    def sweep(self, jobs: set[str], sessions: set[str]) -> None:
        """Remove what belongs to no job and no session, and half-written results."""
        for path in self.spool.iterdir():
            remove(path)
        for name, known in (("jobs", jobs), ("sessions", sessions)):
            for path in (self.root / name).iterdir():
                if path.name not in known:
                    remove(path)
        for job in jobs:
            remove(self.job(job) / WORK)
            remove(self.job(job) / FETCHED)

    def check_space(self, size: float, held: float, *, max_disk_gb: float, min_free_gb: float) -> None:
        """Refuse an upload for which there is no space.

        Raises:
            RefusedError: with the status 507.
        """
        free = shutil.disk_usage(self.root).free
        if free - size < min_free_gb * GB:
            raise RefusedError(
                f"{free / GB:.1f} GB free on the server's disk", expected=f"{min_free_gb:g} GB beside the upload",
                fix="delete finished jobs, or try again later", status=507,
            )  # fmt: skip
        if held + size > max_disk_gb * GB:
            raise RefusedError(
                f"{held / GB:.1f} GB of jobs are stored", expected=f"at most {max_disk_gb:g} GB with the upload",
                fix="delete finished jobs, or try again later", status=507,
            )  # fmt: skip


def remove(path: Path) -> None:
    """Remove a file or a folder, whether it exists or not."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for each in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            total += each.stat().st_size if each.is_file() else 0
    return total


class FolderLock:
    """An exclusive lock that the operating system gives back when this process ends, however it ends.

    SQLite locks its files on every platform, and an open transaction holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)

    def take(self, *, wait_s: float = 0.0) -> bool:
        """Take the lock; False where another process holds it for ``wait_s`` seconds."""
        end = time.monotonic() + wait_s
        while True:
            try:
                self._db.execute("BEGIN EXCLUSIVE")
                return True
            except sqlite3.OperationalError:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.05)

    def release(self) -> None:
        """Give the lock back."""
        self._db.close()
