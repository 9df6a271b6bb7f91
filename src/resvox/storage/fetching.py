"""A scan from its address to local files: an image, an archive, or the prefix of a DICOM series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resvox.errors import StorageError
from resvox.storage.addresses import Location
from resvox.storage.archives import alone_in, is_archive, space_for, unpack
from resvox.storage.objects import ObjectState, download, listing, missing, state_of_object

SLICES_AT_ONCE = 8  # files of a series that are fetched side by side: each is small, and each waits for an answer


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known of a scan's file or series before it is fetched.

    Args:
        location: its address.
        state: shows whether it has changed; of a series of its number of files, sizes and ETags.
        files: of a series, what it consists of; otherwise empty.
        parts: an image and the further files that belong to it, in its folder or below it; empty if it is alone.
    """

    location: Location
    state: ObjectState
    files: tuple[tuple[Location, ObjectState], ...] = ()
    parts: tuple[tuple[Location, ObjectState], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the record of a result."""
        return {"uri": str(self.location), **self.state.to_dict()}


def source_of(location: Location) -> Source:
    """What a store knows of a scan: one request for a file, one per 1000 files of a series.

    Raises:
        StorageError: no such file or series, or the store does not answer.
    """
    if not location.is_folder:
        state = state_of_object(location)
        if state is not None:
            return Source(location=location, state=state)
        if not location.kind.is_conditional:
            raise missing(location)
    files = tuple(listing(location.as_folder))
    if not files and not location.is_folder:
        raise missing(location)
    if not files:
        raise StorageError(
            "no files with this prefix", expected="the prefix of a DICOM series", path=str(location.as_folder)
        )
    return Source(location=location.as_folder, state=_state_of_all(files), files=files)


def with_files_beside(source: Source, beside: Sequence[tuple[Location, ObjectState]]) -> Source:
    """An image with further files that belong to it: it has changed when one of them has."""
    if not beside:
        return source
    parts = ((source.location, source.state), *beside)
    return replace(source, state=_state_of_all(parts), parts=parts)


def fetch(source: Source, folder: Path) -> tuple[Path, int]:
    """The local file, or the folder of a series, and the bytes that came over the network.

    What is local already is used where it lies, but for archives.

    Args:
        source: what to fetch, with the files beside it.
        folder: where the files go; the caller has reserved the space, see `disk_bytes`.

    Raises:
        StorageError: it cannot be read.
    """
    local = source.location.local
    if source.files:
        if local is not None:
            return local, 0
        return folder, _fetch_series(source.files, folder)
    name = source.location.name
    if local is None:
        packed = folder / name
        came = _fetch_parts(source.parts or ((source.location, source.state),), folder)
    else:
        packed, came = local, 0
    if not is_archive(name):
        return packed, came
    inside = folder / f"{name}.files"
    inside.mkdir()
    unpack(packed, inside, source=source.location)
    if local is None:
        packed.unlink()
    return alone_in(inside), came


def disk_bytes(source: Source) -> int:
    """The bytes on disk while a scan is used; of an archive with the files inside, as far as can be known."""
    size = source.state.bytes or 0
    if source.location.local is None:
        return size * 3 if is_archive(source.location.name) else size
    local = source.location.local
    return space_for(local) if is_archive(local.name) and local.is_file() else 0


def _fetch_series(files: Sequence[tuple[Location, ObjectState]], folder: Path) -> int:
    def one(number: int) -> int:
        location, state = files[number]
        return download(location, folder / f"{number:06d}_{location.name[-100:]}", size=state.bytes)

    with ThreadPoolExecutor(SLICES_AT_ONCE, "resvox-slices") as pool:
        return sum(pool.map(one, range(len(files))))


def _fetch_parts(parts: Sequence[tuple[Location, ObjectState]], folder: Path) -> int:
    """Every file where it lies beside the first one."""
    beside = parts[0][0].folder

    def one(part: tuple[Location, ObjectState]) -> int:
        location, state = part
        path = folder / location.below(beside)
        path.parent.mkdir(parents=True, exist_ok=True)
        return download(location, path, size=state.bytes)

    with ThreadPoolExecutor(SLICES_AT_ONCE, "resvox-parts") as pool:
        return sum(pool.map(one, parts))


def _state_of_all(files: Sequence[tuple[Location, ObjectState]]) -> ObjectState:
    digest = hashlib.sha256()
    total = 0
    for location, state in files:
        digest.update(f"{location.name}\0{state.bytes}\0{state.etag or state.modified}\n".encode())
        total += state.bytes or 0
    return ObjectState(bytes=total, etag=f"{len(files)} files {digest.hexdigest()[:32]}")
