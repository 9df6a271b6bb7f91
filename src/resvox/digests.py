"""Digests of model files, kept on disk with the state of each file: the next process need not read it for them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from resvox.errors import ResvoxError
from resvox.files import begin_sha256, file_state, is_settled, remove_leftovers, sha256_of, write_atomically
from resvox.machine import engine_cache_folder

NAME = "resvox-digests.json"  # in the folder of the engine cache
KEPT = 64  # files
LEFTOVER_AGE_S = 3600.0  # temporary files of killed processes are removed after an hour
DIGITS = 64  # of a digest in hexadecimal


def digest_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 digest of a file, in hexadecimal; read from the disk where the file has not changed since.

    The state of a file is its place on the disk, its size and its times, of which no program can set that of the last
    change. The digest of a file that was changed a moment before is not kept, and on Windows none is.

    Raises:
        OSError: a file that cannot be read.
    """
    now, state = time.time_ns(), file_state(path)
    known = _known(state)
    if known is not None:
        return known
    digest = sha256_of(path)
    if is_settled(state, now):
        _keep([*state, digest])
    return digest


def begin_digest(path: str | os.PathLike[str]) -> None:
    """Begin the digest of a file in a thread, unless it is known, see `resvox.files.begin_sha256`."""
    with contextlib.suppress(OSError):  # reported where the digest is asked for
        state = file_state(path)
        if _known(state) is None:
            begin_sha256(path)


def _known(state: tuple[str | int, ...]) -> str | None:
    """The digest of a file in this state; None where there is no well-formed entry for it."""
    entry = _kept().get(str(state[0]))
    if not isinstance(entry, list) or tuple(entry[:-1]) != state or not isinstance(entry[-1], str):
        return None
    return entry[-1] if len(entry[-1]) == DIGITS else None


def _kept() -> dict[str, Any]:
    """The entries by the path of the file; none where they cannot be read."""
    path = _path()
    try:
        found = json.loads(path.read_bytes()) if path is not None else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(entry: list[str | int]) -> None:
    """Add an entry; the oldest ones go. A folder that cannot be written only costs time at the next start."""
    path = _path()
    if path is None:
        return
    others = {name: each for name, each in _kept().items() if name != entry[0]}
    latest = dict([*others.items(), (str(entry[0]), entry)][-KEPT:])
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(latest))
        remove_leftovers(path.parent, of=[path], older_than_s=LEFTOVER_AGE_S)


def _path() -> Path | None:
    try:
        folder = engine_cache_folder()
    except ResvoxError:  # a setting of the cache that cannot be used is reported by the engines that need it
        return None
    return None if folder is None else folder / NAME
