"""Prepared cases on disk: written whole, checked before a run uses them, prepared anew where they are damaged."""

from __future__ import annotations

import errno
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from resvox.errors import ResvoxError
from resvox.files import creating_folder, sha256_of
from resvox.volumes.dicom.files import dicom_paths
from resvox.volumes.tiff import files_beside

FACTS = "facts.json"
IMAGE = "image.npy"  # (channels, *spatial) float32, of the entries of all tasks
PREPARED_BY = "prepared_by"  # the fact that identifies the preprocessing, see `digest_of`
_BLOCK = 1 << 22


def entry_name(case: str, *determined_by: Any) -> str:
    """A name for a case's entry that changes with everything that determines its content."""
    plain = re.sub(r"[^\w.-]", "_", case)  # ids come from manifests and may hold anything
    text = json.dumps(list(determined_by), sort_keys=True, default=str)
    return f"{plain}-{sha256_of(text.encode())[:16]}"


def stamp(path: Path) -> list[Any]:
    """What changes when a file, or one in a folder of DICOM slices, does."""
    # the spacing of a TIFF may be in a file beside it
    files = _files_of(path) if path.is_dir() else [path, *files_beside(path)]
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def prepared_entry(
    target: Path, write: Callable[[Path], dict[str, Any]], *, arrays: Sequence[str], facts: Sequence[str] = ()
) -> dict[str, Any]:
    """The facts of the entry ``target``, which is written first where it is missing or damaged.

    Args:
        write: writes the arrays of the entry into an empty folder and returns its facts.
        arrays: names of the files that an entry has.
        facts: names of the facts that it has.

    Raises:
        ResvoxError: a disk that is full, or a folder that cannot be written; names it.
    """
    if target.is_dir():
        found = _whole_facts(target, arrays, facts)
        if found is not None:
            return found
        shutil.rmtree(target)
    with naming_the_folder(target):
        _write_entry(target, write)
    return entry_facts(target)


def images_prepared_by(preprocessing: Mapping[str, Any], folder: Path) -> list[Path]:
    """The ``image.npy`` of the entries in a folder that were prepared in one way, sorted.

    Entries of older versions do not state how they were prepared, and are left out.

    Args:
        preprocessing: its ``to_dict()``, also as it was read from a file.
    """
    wanted, found = digest_of(preprocessing), {}  # by the contents of the files: a case may have been prepared twice
    for path in sorted(folder.glob(f"*/{FACTS}")):
        with suppress(OSError, ValueError):  # of an entry that is damaged, or being removed
            facts = entry_facts(path.parent)
            if isinstance(facts, dict) and facts.get(PREPARED_BY) == wanted:
                found[facts.get("source", path.parent.name)] = path.parent / IMAGE
    return [path for path in found.values() if array_is_whole(path)]


def digest_of(preprocessing: Mapping[str, Any]) -> str:
    """What identifies a preprocessing in the facts of an entry."""
    return sha256_of(json.dumps(preprocessing, sort_keys=True).encode())[:16]


def entry_facts(target: Path) -> dict[str, Any]:
    """The facts of an entry that `prepared_entry` has checked or written."""
    facts: dict[str, Any] = json.loads((target / FACTS).read_text(encoding="utf-8"))
    return facts


def array_is_whole(path: Path, checksum: int | None = None) -> bool:
    """Whether a ``.npy`` file can be mapped into memory and, where one is given, has the checksum."""
    try:
        np.load(path, mmap_mode="r")
        return checksum is None or checksum_of(path) == checksum
    except (OSError, ValueError, EOFError):
        return False


def checksum_of(path: Path) -> int:
    """CRC-32 of a file: enough against damage, and as fast as the disk."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value


def sources_checksum(paths: Iterable[Path]) -> int:
    """CRC-32 over the contents of a case's files, whatever their names and dates."""
    value = 0
    for path in paths:
        for file in _files_of(path):
            value = zlib.crc32(checksum_of(file).to_bytes(4, "little"), value)
    return value


def _files_of(path: Path) -> list[Path]:
    """The file, or those of a DICOM series that the reader takes from a folder and its sub-folders."""
    return list(dicom_paths(path)) if path.is_dir() else [path]


def is_full_disk(error: OSError) -> bool:
    """Whether a disk or a quota is full; NumPy's error of a short write has no number, only a text."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "requested and" in str(error)


@contextmanager
def naming_the_folder(target: Path) -> Iterator[None]:
    """Turn a full disk, whose error names no file, into one line with folder, reason and fix."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise ResvoxError(
            f"a prepared case could not be written ({error.strerror or 'the disk is full'})",
            expected="space for the prepared cases: about 5 bytes per voxel after resampling",
            fix="free space there, or name a folder on a larger disk in RESVOX_PREPARED, then run the same command",
            path=target.parent,
        ) from error


def _whole_facts(target: Path, arrays: Sequence[str], needed: Sequence[str]) -> dict[str, Any] | None:
    """The facts of an entry whose files are all as they were written; None where something is missing or damaged."""
    try:
        facts = entry_facts(target)
        sums = facts.get("checksums", {})  # entries of older versions have none: then their arrays are opened only
        whole = all(array_is_whole(target / name, sums.get(name)) for name in arrays)
    except (OSError, ValueError, AttributeError):
        return None
    return facts if whole and all(name in facts for name in needed) else None


def _write_entry(target: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    with creating_folder(target) as folder:
        facts = write(folder)
        facts["checksums"] = {path.name: checksum_of(path) for path in sorted(folder.glob("*.npy"))}
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
