"""A zip of a model folder, unpacked: names are checked, sizes are bounded, and only what is needed is written."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resvox.errors import WeightsError
from resvox.weights.formats.archives import check_members, open_zip

MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Archive:
    """A zip as it was when it was unpacked: its size in bytes and its time of change in nanoseconds."""

    path: Path
    size: int
    moment: int


_UNPACKED: dict[Path, Archive] = {}  # by the folder to which it was unpacked


def names_in(path: Path) -> list[str]:
    """The names of a zip's members; none where it is no zip or a broken one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError):
        return []


def note_archive(folder: Path, archive: Archive) -> None:
    """Note which zip was unpacked to a folder."""
    _UNPACKED[folder.resolve()] = archive


def archive_of(path: Path) -> tuple[Archive, str] | None:
    """The zip from which a file was unpacked, and the name of its member; None for other files."""
    path = path.resolve()
    for folder in path.parents:
        if folder in _UNPACKED:
            return _UNPACKED[folder], path.relative_to(folder).as_posix()
    return None


def unpack(path: Path, into: Path, is_needed: Callable[[str], bool], *, expected: str) -> None:
    """Write some members of a zip below a folder.

    Args:
        path: the zip.
        into: the folder.
        is_needed: whether the member of a name is written.
        expected: what the zip should be, in errors.

    Raises:
        WeightsError: not a zip, a broken one, one with a member that would leave the folder or that grows more than a
            hundredfold.
    """
    try:
        with open(path, "rb") as file, open_zip(file, path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise WeightsError(f"a zip of {len(infos)} members", expected=expected, path=path)
            check_members(archive, os.fstat(file.fileno()).st_size, path)
            for info in infos:
                _refuse_escape(info.filename, path)
            for info in infos:
                if not info.is_dir() and is_needed(info.filename):
                    _extract(archive, info, into, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be unpacked ({reason})", expected=expected, path=path) from error


def _refuse_escape(name: str, path: Path) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise WeightsError(
            f"a zip with the member {name[:100]!r}",
            expected="names below its own folder",
            fix="do not use this file: unpacked elsewhere it would write outside its folder",
            path=path,
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, into: Path, path: Path) -> None:
    target = into.joinpath(*PurePosixPath(info.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(info) as member, open(target, "xb") as file:  # zipfile stops at the size that it claims
            shutil.copyfileobj(member, file, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(
            f"a broken {info.filename[:80]} ({str(error)[:100]!r})", expected="a whole file", path=path
        ) from error
