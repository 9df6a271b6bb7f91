"""DICOM files found and their headers read: which files are images, and of which series."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resvox.errors import VolumeError
from resvox.volumes.formats import is_dicom_name
from resvox.volumes.itk import quiet, reason, sitk

STORAGE = "1.2.840.10008.5.1.4.1.1."
# Kinds of DICOM files that hold no scan, and so are passed over in a folder; the start of their SOP class.
NOT_SCANS = {
    "1.2.840.10008.1.3.10": "a DICOM directory (DICOMDIR)",
    f"{STORAGE}481.": "a radiotherapy object (structure set, dose or plan)",
    f"{STORAGE}66.4": "a DICOM segmentation (SEG)",
    f"{STORAGE}66": "raw data, a registration or a surface",
    f"{STORAGE}88.": "a structured report",
    f"{STORAGE}11.": "a presentation state",
    f"{STORAGE}104.": "an encapsulated document",
    f"{STORAGE}9.": "a waveform",
    f"{STORAGE}4.2": "a spectroscopy",
    f"{STORAGE}67": "a real-world value mapping",
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What one DICOM image file says of itself."""

    path: Path
    series_uid: str
    series_number: int | None
    description: str
    modality: str
    size: tuple[int, int]  # rows, columns
    frames: int
    pixel_spacing_mm: tuple[float, float] | None  # between rows, between columns
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None  # unit vectors along a row (growing column), along a column (growing row)
    thickness_mm: float | None  # trusted for a lone slice only


@dataclass(frozen=True, kw_only=True)
class Series:
    """One DICOM series of a folder.

    Args:
        uid: SeriesInstanceUID. number: SeriesNumber, None where the files have none. slices: image files
            or frames.
        paths: its files, in no order of space.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    slices: int
    paths: tuple[Path, ...]
    headers: tuple[Slice, ...] = field(repr=False, default=())

    def __str__(self) -> str:
        number = "-" if self.number is None else str(self.number)
        return f"{number} {self.description!r} ({self.modality}, {self.slices} slices, {self.uid})"


def list_series(folder: str | os.PathLike[str]) -> list[Series]:
    """The image series in a folder and its sub-folders, by series number; what holds no scan is passed over.

    Raises:
        VolumeError: no such folder; a file ending in .dcm that is no DICOM, or a damaged one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VolumeError("no such folder", expected="a folder of DICOM files", path=folder)
    found: dict[str, list[Slice]] = defaultdict(list)
    for path in dicom_paths(folder):
        if not_a_scan(path) is None:
            header = read_header(path)
            found[header.series_uid].append(header)
    series = [_series_of(headers) for headers in found.values()]
    return sorted(series, key=lambda one: (one.number is None, one.number or 0, one.uid))


def _series_of(headers: list[Slice]) -> Series:
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
    """DICOM files in a folder and below, hidden ones left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if is_dicom(path):
                yield path
            elif is_dicom_name(path):
                raise VolumeError("not a DICOM file", expected="DICOM", fix="remove or replace it", path=path)


def is_dicom(path: Path) -> bool:
    """True for a file with the DICOM preamble, or without it but read as an image by GDCM."""
    with open(path, "rb") as stream:
        head = stream.read(132)
    if head[128:132] == b"DICM":
        return True
    if head[:2] != b"\x08\x00" or not (is_dicom_name(path) or path.suffix == ""):
        return False  # older files start with group 0008 at once
    try:
        read_header(path)
    except VolumeError:
        return False
    return True


def not_a_scan(path: Path) -> str | None:
    """What a DICOM file is if it holds no scan ("a structured report"), or None."""
    with open(path, "rb") as stream:
        head = stream.read(1024)
    at = head.find(b"\x02\x00\x02\x00UI")  # MediaStorageSOPClassUID, in the part that is always little endian
    if at < 0:
        return None
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    sop_class = head[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 ")
    return next((name for start, name in NOT_SCANS.items() if sop_class.startswith(start)), None)


def read_header(path: Path) -> Slice:
    """The header of a DICOM image file.

    Raises:
        VolumeError: it holds no scan, or cannot be read as an image.
    """
    kind = not_a_scan(path)
    if kind is not None:
        raise VolumeError(f"{kind}, which holds no scan", expected="a DICOM image", path=path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(f"damaged DICOM file ({reason(error)})", expected="a DICOM image", path=path) from None
    return _slice_of(reader, path)


def _slice_of(reader: Any, path: Path) -> Slice:
    def text(tag: str) -> str:
        if not reader.HasMetaDataKey(tag):
            return ""
        value: str = reader.GetMetaData(tag).encode("utf-8", "replace").decode("utf-8")
        return value.strip("\0 ")

    def numbers(tag: str, count: int) -> tuple[float, ...] | None:
        try:
            values = tuple(float(part) for part in text(tag).split("\\"))
        except ValueError:
            return None
        return values if len(values) == count and all(map(math.isfinite, values)) else None

    columns, rows, *frames = reader.GetSize()
    spacing = numbers("0028|0030", 2) or numbers("0018|1164", 2)  # pixel spacing, else at the detector
    thickness = numbers("0018|0050", 1) or numbers("0018|0088", 1)
    series_number = numbers("0020|0011", 1)
    return Slice(
        path=path,
        series_uid=text("0020|000e"),
        series_number=int(series_number[0]) if series_number else None,
        description=text("0008|103e"),
        modality=text("0008|0060"),
        size=(rows, columns),
        frames=max(1, *frames) if frames else 1,
        pixel_spacing_mm=spacing,  # type: ignore[arg-type]
        position_mm=numbers("0020|0032", 3),  # type: ignore[arg-type]
        orientation=numbers("0020|0037", 6),
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
    )
