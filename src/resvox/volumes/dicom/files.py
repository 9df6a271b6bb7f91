"""DICOM files found in folders: which of them are images, and of which series."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resvox.errors import VolumeError
from resvox.volumes.dicom.header import Header, NoScanError, read_header
from resvox.volumes.dicom.marks import is_dicom, not_a_scan
from resvox.volumes.formats import is_dicom_name


@dataclass(frozen=True, kw_only=True)
class Series:
    """One DICOM series of a folder.

    Args:
        uid: SeriesInstanceUID.
        number: SeriesNumber, None where the files have none.
        slices: number of image files or frames.
        paths: its files, in no spatial order.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    slices: int
    paths: tuple[Path, ...]
    headers: tuple[Header, ...] = field(repr=False, default=())

    def __str__(self) -> str:
        number = "-" if self.number is None else str(self.number)
        return f"{number} {self.description!r} ({self.modality}, {self.slices} slices, {self.uid})"


def list_series(folder: str | os.PathLike[str]) -> list[Series]:
    """The image series in a folder and its sub-folders, by series number; files without a scan are skipped.

    Raises:
        VolumeError: the folder does not exist; a file that ends with .dcm is not DICOM, or is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VolumeError("no such folder", expected="a folder of DICOM files", path=folder)
    found: dict[str, list[Header]] = defaultdict(list)
    for path in dicom_paths(folder):
        if not_a_scan(path) is not None:
            continue
        try:
            header = read_header(path)
        except NoScanError:
            continue
        found[header.series_uid].append(header)
    series = [_series_of(headers) for headers in found.values()]
    return sorted(series, key=lambda one: (one.number is None, one.number or 0, one.uid))


def _series_of(headers: list[Header]) -> Series:
    first = headers[0]
    return Series(
        uid=first.series_uid,
        number=first.series_number,
        description=first.description,
        modality=first.modality,
        slices=sum(header.frames for header in headers),
        paths=tuple(header.path for header in headers),
        headers=tuple(headers),
    )


def dicom_paths(folder: Path) -> Iterator[Path]:
    """DICOM files in a folder and below; hidden files, pipes and devices are left out.

    Raises:
        VolumeError: a file cannot be opened (a broken link, no permission), or is named like a DICOM file
            without being one.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or (path.exists() and not path.is_file()):
                continue
            try:
                found = is_dicom(path)
            except OSError as error:
                raise VolumeError(
                    f"cannot be opened ({error.strerror})",
                    expected="a file to read",
                    fix="make it readable, or remove it",
                    path=path,
                ) from None
            if found:
                yield path
            elif is_dicom_name(path):
                raise VolumeError(
                    "the file is empty (0 bytes)" if path.stat().st_size == 0 else "not a DICOM file",
                    expected="DICOM",
                    fix="remove or replace it",
                    path=path,
                )
