"""Models and datasets by their addresses: fetched once into the cache, as long as the store has the same files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from resvox.files import creating_folder
from resvox.machine import engine_cache_folder
from resvox.storage.addresses import Location, is_uri
from resvox.storage.fetching import Source, source_of
from resvox.storage.objects import download


def cached(source: str | os.PathLike[str]) -> Path:
    """The local copy of a file or of all files below a folder; a local address is where it is.

    A copy is kept by the state of the files in the store (ETag, or size and time), so a file that has changed is
    fetched again. It is whole or it is not there.

    Raises:
        StorageError: no such file, or it cannot be read.
    """
    location = Location.parse(source)
    local = location.local
    if local is not None:
        return local
    found = source_of(location)
    state = found.state
    mark = f"{found.location}\0{state.bytes}\0{state.etag or state.modified}"
    folder = _cache_folder() / hashlib.sha256(mark.encode()).hexdigest()[:24]
    if not folder.is_dir():
        with creating_folder(folder) as making:
            _fill(found, making)
    return folder / location.name


def local_copy(source: str | os.PathLike[str]) -> Path:
    """A local path as it is, and of an address what `cached` gives.

    Raises:
        StorageError: as in `cached`.
    """
    return cached(source) if is_uri(source) else Path(source).expanduser()


def _fill(source: Source, folder: Path) -> None:
    inside = folder / source.location.name
    if not source.files:
        download(source.location, inside, size=source.state.bytes)
        return
    inside.mkdir()
    start = len(source.location.uri)
    for location, state in source.files:
        parts = [part for part in location.uri[start:].split("/") if part not in ("", ".", "..")]
        download(location, inside.joinpath(*parts), size=state.bytes)


def _cache_folder() -> Path:
    engines = engine_cache_folder()
    return engines.parent / "fetched" if engines is not None else Path(tempfile.gettempdir()) / "resvox-fetched"
