"""Locks on cases: claim files in a shared folder, so that each case is processed by one process only.

A claim is a small file created with O_EXCL, which exactly one process can do, on network file systems too. Its
owner updates its time regularly (heartbeat); a claim whose process has ended, or without a heartbeat for long, is stale
and is taken over. Results are written atomically, so the worst result of a lost race is work done twice.

A claim may hold a note on the inputs of its case. Where a process is killed between a result and its line in the
log, the note is left and completes the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

BEAT_SECONDS = 10.0
STALE_SECONDS = 120.0  # many beats: a holder that swaps or waits for a disk must not lose its case


class Claims:
    """The claims of this process in ``folder/.claims``; a context manager that gives back what it still holds.

    Args:
        folder: where the results are written; made if missing.
        beat_seconds: how often a held claim is touched.
        stale_seconds: how old an untouched claim must be before it is taken over from another machine.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.folder = Path(folder) / ".claims"
        self.beat_seconds = beat_seconds
        self.stale_seconds = stale_seconds
        self._held: dict[str, str] = {}  # case -> token
        self._end = threading.Event()
        self._beat = threading.Thread(target=self._beating, name="resvox-claims", daemon=True)

    def __enter__(self) -> Claims:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._beat.join()
        for case in list(self._held):
            self.release(case)
        with contextlib.suppress(OSError):  # others may still hold claims in it
            self.folder.rmdir()

    def take(self, case: str, note: Mapping[str, Any] | None = None) -> bool:
        """Claim a case; False where a live process has it.

        Args:
            case: any name that is fit for a file.
            note: a JSON object to be kept in the claim, see `left_note`.
        """
        path = self._path(case)
        for _ in range(3):  # a stale claim is removed at most once or twice before one process gets it
            if self._create(path, case, note):
                return True
            found = _read(path)
            if not self._is_stale(path, found):
                return False
            self._remove_stale(path, found)
        return False

    def release(self, case: str) -> None:
        """Give a claim back; one that was taken over in the meantime is left to its new holder."""
        token = self._held.pop(case, None)
        path = self._path(case)
        # A claim that a failing file system keeps is not renewed any more, so others take it over.
        with contextlib.suppress(OSError):
            if token is not None and _read(path).get("token") == token:
                path.unlink(missing_ok=True)

    def left_note(self, case: str) -> dict[str, Any] | None:
        """The note of a claim whose process is gone; None where there is no such claim or it has no note."""
        path = self._path(case)
        found = _read(path)
        note = found.get("note")
        return note if isinstance(note, dict) and self._is_stale(path, found) else None

    def holder(self, case: str) -> str:
        """Who has a case, in words: ``process 4711 on node3``."""
        found = _read(self._path(case))
        if not found:
            return "another process"
        return f"process {found.get('pid', '?')} on {str(found.get('host', '?')).partition('|')[0]}"

    def is_local(self, case: str) -> bool:
        """Whether the holder is on this machine, where it is known at once whether it runs."""
        return _read(self._path(case)).get("host") == _host()

    def beat_of(self, case: str) -> float | None:
        """When the holder last touched its claim, by the folder's clock; None where there is no claim."""
        try:
            return self._path(case).stat().st_mtime
        except FileNotFoundError:
            return None

    def clock(self) -> float:
        """The time by the folder's own clock, which on a network file system is not this machine's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".clock-") as file:
            return os.stat(file.name).st_mtime

    def _path(self, case: str) -> Path:
        return self.folder / f"{case}.lock"

    def _create(self, path: Path, case: str, note: Mapping[str, Any] | None) -> bool:
        token = uuid.uuid4().hex
        self.folder.mkdir(parents=True, exist_ok=True)  # the last process to finish removes it
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except (FileExistsError, FileNotFoundError):
            return False
        with os.fdopen(handle, "w") as file:
            content = {"token": token, **describe_process()}
            json.dump({**content, **({} if note is None else {"note": note})}, file)
        self._held[case] = token
        return True

    def _is_stale(self, path: Path, found: dict[str, object]) -> bool:
        if is_gone(found):
            return True
        try:
            touched = path.stat().st_mtime
        except FileNotFoundError:
            return True
        return self.clock() - touched > self.stale_seconds

    def _remove_stale(self, path: Path, found: dict[str, object]) -> None:
        # Renamed before it is removed: of several processes that saw it stale, one gets the file.
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        if _read(aside).get("token") != found.get("token"):
            # Another process was faster and this is its fresh claim: back with it, unless there is a newer one.
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)

    def _beating(self) -> None:
        while not self._end.wait(self.beat_seconds):
            for case in list(self._held):
                # Released or taken over meanwhile; or a network file system failed, which the next beat may not meet.
                with contextlib.suppress(OSError):
                    os.utime(self._path(case))


def describe_process() -> dict[str, Any]:
    """What identifies this process for `is_gone`, and in words for people."""
    host = _host()
    return {
        "pid": os.getpid(),
        "host": host,
        "born": _born(os.getpid()),
        "words": f"process {os.getpid()} on {host.partition('|')[0]}",
    }


def is_gone(found: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False for one of another machine, which cannot be seen."""
    pid = found.get("pid")
    return found.get("host") == _host() and isinstance(pid, int) and not _runs(pid, found.get("born"))


def _read(path: Path) -> dict[str, object]:
    """The contents of a claim; empty if it has been removed or is being written."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _host() -> str:
    """This machine and, where it is a container, this view of its processes: pids mean nothing outside."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()}|{space}"


def _runs(pid: int, born: object) -> bool:
    if sys.platform == "win32":
        return True  # os.kill(pid, 0) would end it there; the heartbeat alone decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return born == _born(pid)  # the number may have been given to a new process


def _born(pid: int) -> str:
    """When a process started, in the kernel's clock ticks; empty without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
