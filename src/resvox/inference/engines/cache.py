"""The engine cache: compiled networks and the verdicts of the accuracy guard, kept in a folder of this user."""

from __future__ import annotations

import contextlib
import json
import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    found = read_cached_array(name)
    return None if found is None else found.tobytes()


def read_cached_array(name: str) -> npt.NDArray[np.uint8] | None:
    """As `read_cached`, as an array, which OpenVINO uses without a copy."""
    path = _path_of(name)
    if path is None:
        return None
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:  # a cache that cannot be read is treated as a cache without the file
        return None
    with contextlib.suppress(OSError):  # of another user: it may be read, but not marked as used
        path.touch()
    return data


def is_cached(name: str) -> bool:
    """Whether something is kept under a name."""
    path = _path_of(name)
    return path is not None and path.is_file()


def write_cached(name: str, data: bytes | memoryview) -> None:
    """Keep bytes under a name; the least recently used of the files that this cache wrote are removed.

    Files of other names in the folder are left alone. A cache that cannot be written (no home folder, full disk) is not
    an error: it only costs time at the next start.
    """
    path = _path_of(name)
    if path is None:
        return
    folder = path.parent
    with contextlib.suppress(OSError):
        write_atomically(path, data)
        kept = sorted(folder.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            path.unlink(missing_ok=True)
        remove_leftovers(folder, prefix=PREFIX, older_than_s=LEFTOVER_AGE_S)


def _path_of(name: str) -> Path | None:
    folder = engine_cache_folder()
    return None if folder is None else folder / f"{PREFIX}{name}"
