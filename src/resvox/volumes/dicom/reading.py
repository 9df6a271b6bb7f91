"""From a DICOM file or series to a volume: slices in the order of their positions, not of their names."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from resvox.errors import VolumeError
from resvox.volumes.dicom.files import Series, list_series
from resvox.volumes.dicom.geometry import axes_of, stacked
from resvox.volumes.dicom.header import Plane, read_header
from resvox.volumes.dicom.marks import is_dicom
from resvox.volumes.dicom.pixels import read_planes
from resvox.volumes.volume import Volume

__all__ = ["Series", "is_dicom", "list_series", "read_dicom"]


def read_dicom(path: Path, *, series: str | int | None = None) -> Volume:
    """One DICOM file, or one series of a folder and its sub-folders.

    Slices, which may be files or frames of multi-frame files, are ordered by their position projected on the slice
    normal; the distance between slices comes from those positions. Each frame's own rescale slope and intercept, or its
    modality lookup table, is applied. A single image without a position is a 2-D image.

    Raises:
        VolumeError: no series, or several and none chosen; a missing slice, uneven spacing, two slices at one position;
            tilted or differing slices; no position, orientation or spacing; frames without positions (an
            image sequence); a mosaic; a damaged or truncated file.
    """
    headers = choose_series(path, series).headers if path.is_dir() else (read_header(path),)
    for header in headers:
        if header.problem is not None:
            raise header.problem
    planes = [plane for header in headers for plane in header.planes]
    return _single(planes[0]) if len(planes) == 1 else _stack(path, planes)


def choose_series(folder: Path, series: str | int | None) -> Series:
    """The only series of a folder, or the one chosen by UID or series number."""
    found = list_series(folder)
    if not found:
        raise VolumeError(
            "no DICOM images in this folder",
            expected="a DICOM series",
            fix="name the image file",
            path=folder,
        )
    chosen = [one for one in found if series is None or str(series) in (one.uid, str(one.number))]
    if len(chosen) != 1:
        asked = "none chosen" if series is None else f"series={series!r} fits {len(chosen)} of them"
        raise VolumeError(
            f"{len(found)} series and {asked}: {', '.join(map(str, found))}",
            expected="one series",
            fix="choose one by series number or UID with series=",
            path=folder,
        )
    return chosen[0]


def _stack(path: Path, planes: list[Plane]) -> Volume:
    ordered, grid = stacked(path, planes)
    return Volume.on_grid(read_planes(ordered), grid)


def _single(plane: Plane) -> Volume:
    if plane.position_mm is None and plane.orientation is None:
        return _picture(plane)
    missing = [
        name
        for name, value in (
            ("ImagePositionPatient", plane.position_mm),
            ("ImageOrientationPatient", plane.orientation),
            ("PixelSpacing", plane.pixel_spacing_mm),
        )
        if value is None
    ]
    if missing:
        raise VolumeError(
            f"a slice without {' and '.join(missing)}",
            expected="ImagePositionPatient, ImageOrientationPatient and PixelSpacing",
            fix="export the image again with these attributes",
            path=plane.path,
        )
    if plane.thickness_mm is None:
        warnings.warn(
            f"{plane.path}: a single slice without SliceThickness is taken to be 1 mm thick", UserWarning, stacklevel=2
        )
    normal, down, along = axes_of(plane)
    assert plane.pixel_spacing_mm is not None
    assert plane.position_mm is not None
    return Volume(
        read_planes([plane]),
        spacing_mm=(plane.thickness_mm or 1.0, *plane.pixel_spacing_mm),
        origin_mm=plane.position_mm,
        direction=np.stack([normal, down, along], axis=1),
    )


def _picture(plane: Plane) -> Volume:
    """An image without a position in the patient: a radiograph, an ultrasound image, a photograph."""
    if plane.pixel_spacing_mm is None:
        warnings.warn(
            f"{plane.path}: an image without PixelSpacing is read with pixels of 1 x 1 mm", UserWarning, stacklevel=2
        )
    return Volume(read_planes([plane])[..., 0, :, :], spacing_mm=plane.pixel_spacing_mm or (1.0, 1.0))
