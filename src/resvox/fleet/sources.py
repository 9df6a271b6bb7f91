"""All files of a scan in its store: the one of its address, and those beside it that it cannot be read without."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from resvox.errors import StorageError, StoreBusyError, VolumeError
from resvox.storage.addresses import Location
from resvox.storage.archives import is_archive
from resvox.storage.fetching import SLICES_AT_ONCE, Source, source_of, with_files_beside
from resvox.storage.objects import ObjectState, read_bytes, state_of_object
from resvox.volumes.formats import DETACHED_ENDINGS, ending_of, format_of, partner_names
from resvox.volumes.metaimage import voxel_file_names
from resvox.volumes.nrrd.header import LONGEST_HEADER, read_header
from resvox.volumes.tiff.spacing_file import spacing_file_names


def source_of_scan(location: Location) -> Source:
    """What a store knows of a scan, with the files beside it.

    The voxel file of a ``.hdr``, the JSON file with the spacing of a TIFF, and the files that ``.mhd`` and ``.nhdr``
    name are part of the source where they exist; reading the scan reports what is missing. One request per file that
    is looked for. None are looked for beside an address with a query: its signature is for one file.

    Raises:
        StorageError: no such file or series, or the store does not answer.
        VolumeError: a header that names files outside its folder, or cannot be read.
    """
    source = source_of(location)
    if source.files or is_archive(location.name) or location.has_query:
        return source
    names = _names_beside(source)
    if not names:
        return source
    with ThreadPoolExecutor(SLICES_AT_ONCE, "resvox-parts") as pool:
        found = list(pool.map(partial(_first_found, location), names))
    return with_files_beside(source, [each for each in found if each is not None])


def _first_found(image: Location, names: Sequence[str]) -> tuple[Location, ObjectState] | None:
    for name in names:
        try:
            state = state_of_object(image.beside(name))
        except StoreBusyError:
            raise
        except StorageError:  # stores that do not permit listings answer so for files that do not exist
            state = None
        if state is not None:
            return image.beside(name), state
    return None


def refuse_files_outside(path: Path) -> None:
    """Refuse a fetched header that names voxel files outside its folder: these are files of this machine.

    Raises:
        VolumeError: it does, or it cannot be read.
    """
    if not path.is_file() or _reader(path.name) is None:
        return
    with open(path, "rb") as file:
        _files_inside(file.read(LONGEST_HEADER), path)


def _names_beside(source: Source) -> list[tuple[str, ...]]:
    """The files beside a scan that are looked for: of each its possible names, in the order they are tried."""
    name = source.location.name
    row = format_of(name)
    if row is not None and row.name == "TIFF":
        return [(each,) for each in spacing_file_names(Path(name))]
    pair = partner_names(name)
    if pair:
        return [pair]
    size = source.state.bytes
    if ending_of(name) not in DETACHED_ENDINGS or (size is not None and size > LONGEST_HEADER):
        return []  # a larger file holds the voxels itself
    content, path = read_bytes(source.location) or b"", Path(name)
    # A local header may name any file of this machine, as in a prediction without addresses.
    names = _named_files(content, path) if source.location.local is not None else _files_inside(content, path)
    return [(each,) for each in names]


def _files_inside(content: bytes, path: Path) -> list[str]:
    """The voxel files that a header names, all of them below its folder."""
    names = _named_files(content, path)
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ".." in parts or not parts or ":" in parts[0]:
            raise VolumeError(
                f"voxels in {name[:80]!r}", expected="a file in the folder of its header, or below it", path=path
            )
    return [posixpath.normpath(name) for name in names]


def _named_files(content: bytes, path: Path) -> list[str]:
    reader = _reader(path.name)
    return [] if reader is None else reader(content[:LONGEST_HEADER], path)


def _reader(name: str) -> Callable[[bytes, Path], list[str]] | None:
    row = format_of(name)
    return None if row is None else READERS.get(row.name)


def _nrrd_files(content: bytes, path: Path) -> list[str]:
    return list(read_header(content, path).files or ())


# by name of the format
READERS: dict[str, Callable[[bytes, Path], list[str]]] = {"MetaImage": voxel_file_names, "NRRD": _nrrd_files}
