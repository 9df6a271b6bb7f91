"""The engine cache: compiled networks and the verdicts of the accuracy guard, kept in a folder of this user."""

from __future__ import annotations

import contextlib
import json
import platform
from pathlib import Path

from resvox.files import remove_leftovers, sha256_of, write_atomically
from resvox.machine import engine_cache_folder

PREFIX = "resvox-engine-"  # only files of this name are counted and removed: the folder may hold other files too
LEFTOVER_AGE_S = 3600.0  # temporary files of killed processes are removed after an hour
KEPT = 12  # files; a compiled network is about as large as its weights


def key_of(*parts: object) -> str:
    """A file name for everything that a compiled network depends on; the processor is part of it."""
    words = json.dumps([str(part) for part in (*parts, platform.machine(), _processor())])
    return sha256_of(words.encode())[:32]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in text.splitlines() if line.startswith(("model name", "flags"))}))


def read_cached(name: str) -> bytes | None:
    """The bytes kept under a name, or None."""
    folder = engine_cache_folder()
    if folder is None:
        return None
    path = folder / f"{PREFIX}{name}"
    with contextlib.suppress(OSError):  # a cache that cannot be read is treated as a cache without the file
        data = path.read_bytes()
        path.touch()
        return data
    return None


def write_cached(name: str, data: bytes | memoryview) -> None:
    """Keep bytes under a name; the least recently used of the files that this cache wrote are removed.

    Files of other names in the folder are left alone. A cache that cannot be written (no home folder, full disk) is not
    an error: it only costs time at the next start.
    """
    folder = engine_cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        write_atomically(folder / f"{PREFIX}{name}", data)
        kept = sorted(folder.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            path.unlink(missing_ok=True)
        remove_leftovers(folder, prefix=PREFIX, older_than_s=LEFTOVER_AGE_S)
