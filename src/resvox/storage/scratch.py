"""Scratch: a bounded folder for files that are fetched, and for results before they are uploaded.

Each process has a folder of its own, with a claim that shows whether it still runs: what a killed process left is
removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from resvox.errors import StorageError
from resvox.locks import Claims

VARIABLE = "RESVOX_SCRATCH"
GIGABYTE = 10**9
DEFAULT_GB = 20.0


class Scratch:
    """A folder for the files of this process; a context manager that removes it.

    Args:
        root: where such folders are made; None for RESVOX_SCRATCH, otherwise a folder of the system's temporary one.
        limit_gb: what the files may take together. A scan that needs more is taken alone.

    Raises:
        StorageError: a limit that is not above 0.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, *, limit_gb: float = DEFAULT_GB) -> None:
        if not limit_gb > 0:
            raise StorageError(f"a scratch of {limit_gb} GB", expected="a number above 0, e.g. 20")
        self.root = Path(root or os.environ.get(VARIABLE, "").strip() or _default_root()).expanduser()
        self.limit = int(limit_gb * GIGABYTE)
        self.folder = self.root / f"run-{secrets.token_hex(8)}"
        self._claims = Claims(self.root)
        self._used = 0
        self._largest = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Scratch:
        self.root.mkdir(parents=True, exist_ok=True)
        self._claims.__enter__()
        self._claims.take(self.folder.name)
        self.folder.mkdir()
        sweep(self.root, self._claims, but=self.folder.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._claims.__exit__(kind, error, trace)

    @property
    def used(self) -> int:
        """Bytes that are reserved now."""
        return self._used

    @property
    def largest(self) -> int:
        """The most bytes that were reserved at once."""
        return self._largest

    def reserve(self, size: int) -> None:
        """Wait until so many bytes are free, or nothing else is held.

        Raises:
            StorageError: the disk itself has less.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + size <= self.limit)
            if self._closed:
                raise StorageError("no more scans are fetched: the run is being stopped", path=self.root)
            free = shutil.disk_usage(self.folder).free
            if size > free:
                raise StorageError(
                    f"{free / GIGABYTE:.1f} GB free",
                    expected=f"{size / GIGABYTE:.1f} GB for the next scan",
                    fix=f"set {VARIABLE} to a folder on a larger disk",
                    path=self.root,
                )
            self._used += size
            self._largest = max(self._largest, self._used)

    def free(self, size: int) -> None:
        """Give space back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse space from now on, also to threads that wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def new_folder(self) -> Path:
        """An empty folder."""
        made = self.folder / secrets.token_hex(8)
        made.mkdir()
        return made

    def remove(self, folder: Path) -> None:
        """Remove a folder that `new_folder` made."""
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path, claims: Claims, *, but: str = "") -> None:
    """Remove the folders of processes that have ended without doing it themselves."""
    for folder in root.glob("run-*"):
        if folder.name == but or not claims.take(folder.name):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        claims.release(folder.name)


def _default_root() -> str:
    user = "user"
    with contextlib.suppress(AttributeError):  # Windows has no user numbers
        user = str(os.getuid())
    return os.path.join(tempfile.gettempdir(), f"resvox-scratch-{user}")
