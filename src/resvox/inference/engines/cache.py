"""What an engine has made once and can use again: compiled networks and verdicts, in a folder of this user."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = "RESVOX_CACHE"  # an environment variable; empty switches the cache off
KEPT = 12  # files; a compiled network is about as large as its weights


def cache_folder() -> Path | None:
    """``$RESVOX_CACHE``, else the user's cache folder; None where the variable is set and empty."""
    named = os.environ.get(FOLDER)
    if named is not None:
        return Path(named) if named else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "resvox" / "engines"


def fingerprint_of(path: str | os.PathLike[str]) -> str:
    """A digest of a file's bytes: the same network under another name is the same."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    return str(digest.hexdigest())


def _digest(file: Any) -> Any:  # Python 3.10
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest


def key_of(*parts: object) -> str:
    """A file name for everything that a compiled network depends on; the processor is part of it."""
    words = json.dumps([str(part) for part in (*parts, platform.machine(), _processor())])
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in text.splitlines() if line.startswith(("model name", "flags"))}))


def read_cached(name: str) -> bytes | None:
    """The bytes kept under a name, or None."""
    folder = cache_folder()
    if folder is None:
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be read is a cache without the file
        data = (folder / name).read_bytes()
        (folder / name).touch()
        return data
    return None


def write_cached(name: str, data: bytes | memoryview) -> None:
    """Keep bytes under a name, atomically; what has not been used for longest makes room.

    A cache that cannot be written (no home, full disk) only costs time the next time, so that is no error.
    """
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, folder / name)
        finally:
            Path(temporary).unlink(missing_ok=True)
        kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            path.unlink(missing_ok=True)
