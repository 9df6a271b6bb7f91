"""A scan in an archive: the slices of a DICOM series, or one image file, in a ``.zip`` or ``.tar``."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from resvox.errors import StorageError
from resvox.storage.addresses import Location

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
LARGEST = 64 * 10**9  # bytes that an archive may unfold to


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name."""
    return name.lower().endswith(ENDINGS)


def stem_of_archive(name: str) -> str:
    """A name without the ending of an archive."""
    ending = next((each for each in ENDINGS if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]


def unpack(archive: Path, folder: Path, *, source: Location) -> int:
    """Write the files of an archive into a folder; their bytes.

    Folders of the archive are left out: files are numbered, so that no name can lead elsewhere. The archive is
    read as a stream, and what is not a plain file is passed over.

    Args:
        archive: the local file.
        folder: empty.
        source: where it came from, for messages.

    Raises:
        StorageError: damaged, empty, or larger than any series.
    """
    total = number = 0
    try:
        for number, (name, file) in enumerate(_members(archive), 1):
            target = folder / _safe(number, name)
            with file as reading, target.open("xb") as writing:
                while piece := reading.read(1 << 20):
                    total += len(piece)
                    if total > LARGEST:
                        raise _damaged(source, f"more than {LARGEST // 10**9} GB inside")
                    writing.write(piece)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(source, " ".join(str(error).split()) or type(error).__name__) from error
    except OSError as error:
        if isinstance(error, StorageError) or error.errno is not None:
            raise
        raise _damaged(source, str(error)) from error  # gzip's own error, which has no number
    if not number:
        raise _damaged(source, "no files inside")
    return total


def alone_in(folder: Path) -> Path:
    """The only file of a folder, where it has one; otherwise the folder, a series."""
    files = list(folder.iterdir())
    return files[0] if len(files) == 1 else folder


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir() and _is_wanted(info.filename):
                    yield info.filename, opened.open(info)
        return
    with tarfile.open(archive, mode="r:*") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and _is_wanted(member.name):
                yield member.name, file


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in path.parts)
    return path.name.upper() != "DICOMDIR" and not hidden


def _safe(number: int, name: str) -> str:
    """A name of its own that keeps the ending."""
    plain = PurePosixPath(name.replace("\\", "/")).name
    return f"{number:06d}_{plain[-100:]}"


def _damaged(source: Location, words: str) -> StorageError:
    return StorageError(
        f"not an archive that can be read ({words})",
        expected=f"the files of one scan in a {', '.join(ENDINGS)}",
        path=str(source),
    )


def space_for(archive: Path) -> int:
    """The bytes that an archive unfolds to, as it announces them; of a packed tar an estimate."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return sum(info.file_size for info in opened.infolist())
    return archive.stat().st_size * (4 if archive.name.endswith("gz") else 1)
