"""Uploads: stored under names of our own. Nothing of a client's file name is kept but a known ending."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from resvox.server.folders import UPLOAD
from resvox.server.refusals import RefusedError
from resvox.volumes.formats import DETACHED_ENDINGS, DICOM_ENDINGS, READ_ENDINGS, ending_of, format_of, paired_files

STEM = "scan"
ZIP = ".zip"
LONGEST_COPY = 1 << 20


def store_upload(files: Sequence[tuple[str, BinaryIO]], folder: Path) -> int:
    """Store the files of a request in ``folder/upload``; the bytes of all.

    One image is ``scan.nii.gz``; several are channels, ``scan_0000.nii.gz``, ... in the order given; files without a
    known ending or with that of DICOM are the folder ``scan`` of one series; an archive is ``scan.zip``.

    Args:
        files: name and content of each.
        folder: of a job or a session; ``upload`` does not exist in it yet.

    Raises:
        RefusedError: empty files, or files that do not belong together.
    """
    target = folder / UPLOAD
    target.mkdir(parents=True)
    names = names_for([name for name, _ in files])
    total = 0
    for name, (_, content) in zip(names, files, strict=True):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, LONGEST_COPY)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if size == 0:
            raise RefusedError("an empty file (0 bytes)", expected="a scan", status=422)
        total += size
    return total


def names_for(names: Sequence[str]) -> list[str]:
    """The names under which files of an upload are stored.

    Raises:
        RefusedError: files that do not belong together, or of a kind that is not read.
    """
    endings = [_ending(name) for name in names]
    if ZIP in endings:
        if len(endings) > 1:
            raise RefusedError("an archive beside other files", expected="one archive alone")
        return [STEM + ZIP]
    if all(ending in ("", *DICOM_ENDINGS) for ending in endings):
        return [f"{STEM}/{number:06d}{ending}" for number, ending in enumerate(endings)]
    if "" in endings or any(ending in DICOM_ENDINGS for ending in endings):
        raise RefusedError(
            "DICOM or unknown files beside images",
            expected=f"{', '.join(READ_ENDINGS)}, a zip archive, or the files of a DICOM series",
        )
    if len(endings) == 1:
        return [STEM + endings[0]]
    pair = paired_files(f"{STEM}{endings[0]}")
    if pair is not None and len(endings) == 2:
        return [STEM + ending for ending in endings]
    return [f"{STEM}_{number:04d}{ending}" for number, ending in enumerate(endings)]


def _ending(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    if base.lower().endswith(ZIP):
        return ZIP
    ending = ending_of("a" + base)  # a name that is all ending has one here
    if ending in DETACHED_ENDINGS:
        raise RefusedError(
            f"a {ending} header, whose voxels are in another file", expected="one file (.nrrd, .mha)", status=422
        )
    row = format_of("a" + base)
    return ending if row is not None else ""


def scan_paths(upload: Path) -> list[Path]:
    """The inputs of a stored upload, as ``resvox predict`` takes them; an archive is a file that ends with .zip."""
    found = sorted(upload.iterdir())
    pair = paired_files(found[0]) if len(found) == 2 else None
    return [pair[0]] if pair is not None else found
