"""Archives of requests: unpacked under names of our own, within limits, or refused with the reason."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from resvox.server.intake import names_for
from resvox.server.refusals import RefusedError

CHUNK = 1 << 20
IGNORED = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
TEXTS = (".txt", ".json", ".xml", ".csv", ".html", ".htm", ".pdf", ".md", ".log")  # beside scans; passed over
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
MB = 1e6


def unpack(archive: Path, folder: Path, *, max_mb: float, max_files: int) -> None:
    """Unpack a zip archive into a new folder, under the names that an upload of its files would have.

    Sizes are counted while the archive is unpacked: what its directory states is not trusted.

    Raises:
        RefusedError: not a zip archive, a damaged or an encrypted one; too many files or too much content; names that
            lead out of the archive; links; archives inside.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, max_files)
            left = int(max_mb * MB)
            if sum(each.file_size for each in members) > left:
                raise _too_large(max_mb)
            for member, name in zip(members, names_for([each.filename for each in members]), strict=True):
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                left -= _extract(opened, member, path, left, max_mb)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RefusedError(
            f"a damaged or truncated zip archive ({error})", expected="a whole one", fix="make or upload it again"
        ) from None
    except (NotImplementedError, RuntimeError) as error:
        raise RefusedError(
            f"a zip archive that cannot be unpacked ({error})", expected="one without encryption, stored or deflated"
        ) from None


def _members(opened: zipfile.ZipFile, max_files: int) -> list[zipfile.ZipInfo]:
    found = []
    infos = opened.infolist()
    if len(infos) > 2 * max_files:
        raise _too_many(len(infos), max_files)
    for info in infos:
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise RefusedError(
                "a zip archive with a file name that leads out of it ('..' or an absolute path)",
                expected="names below the archive",
                fix="make it from the folder of the series",
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise RefusedError("a zip archive with a link", expected="files alone")
        if info.is_dir() or not parts or any(part in IGNORED for part in parts) or parts[-1].startswith("."):
            continue
        if parts[-1].lower().endswith(TEXTS):
            continue
        if parts[-1].lower().endswith(ARCHIVES):
            raise RefusedError("a zip archive that holds another archive", expected="a scan", fix="unpack that one")
        found.append(info)
    if not found:
        raise RefusedError("an empty zip archive", expected="a scan or a DICOM series in it")
    if len(found) > max_files:
        raise _too_many(len(found), max_files)
    return sorted(found, key=lambda each: each.filename)


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int, max_mb: float) -> int:
    size = 0
    with opened.open(member) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > left:
                raise _too_large(max_mb)
            target.write(chunk)
    return size


def _too_large(max_mb: float) -> RefusedError:
    return RefusedError(
        "a zip archive that unpacks to more than the limit", expected=f"at most {max_mb:g} MB", fix="upload fewer files"
    )


def _too_many(count: int, max_files: int) -> RefusedError:
    return RefusedError(f"a zip archive of {count} files", expected=f"at most {max_files}", fix="upload one series")
