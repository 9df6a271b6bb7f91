"""A DICOM series becomes a volume: slices in the order of space, never of names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.dicom_files import Series, Slice, is_dicom, list_series, read_header
from resvox.volumes.itk import read_image, volume_of
from resvox.volumes.volume import Volume

__all__ = ["Series", "is_dicom", "list_series", "read_dicom"]

UNEVEN_TOLERANCE = 0.1  # of the slice spacing: scanners round positions, a missing slice is a whole one
TILT_TOLERANCE = 0.5  # of a pixel, over the whole series
SAME_PLACE_MM = 1e-3


def read_dicom(path: Path, *, series: str | int | None = None) -> Volume:
    """One DICOM file, or one series of a folder and its sub-folders.

    Slices are ordered by their position projected on the slice normal; the distance between slices comes
    from those positions; each file's rescale slope and intercept is applied. A file without a position is
    a 2-D image.

    Raises:
        VolumeError: no series or several and none chosen; a hole, uneven spacing, two slices at one place,
            tilted or differing slices; a multi-frame file without positions.
    """
    if path.is_dir():
        headers: Sequence[Slice] = choose_series(path, series).headers
    else:
        headers = [read_header(path)]
    if len(headers) > 1:
        return _stack(path, headers)
    return _multi_frame(headers[0]) if headers[0].frames > 1 else _lone_slice(headers[0])


def choose_series(folder: Path, series: str | int | None) -> Series:
    """The one series of a folder, or the one asked for by UID or series number."""
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


def _stack(path: Path, headers: Sequence[Slice]) -> Volume:
    _check_alike(path, headers)
    first = headers[0]
    positions = np.array([header.position_mm for header in headers], float)
    normal, down, along = _axes(first)
    order = np.argsort(positions @ normal, kind="stable")
    ordered = [headers[k] for k in order]
    names = [header.path.name for header in ordered]
    spacing_mm = _slice_spacing_mm(path, positions[order], normal, names, min(first.pixel_spacing_mm or (1.0,)))
    slabs = [_pixels(header) for header in ordered]
    return Volume(
        np.concatenate(slabs, axis=-3),
        spacing_mm=(spacing_mm, *(first.pixel_spacing_mm or ())),
        origin_mm=tuple(positions[order[0]]),
        direction=np.stack([normal, down, along], axis=1),
    )


def _check_alike(path: Path, headers: Sequence[Slice]) -> None:
    first = headers[0]
    for header in headers:
        missing = header.position_mm is None or header.orientation is None or header.pixel_spacing_mm is None
        if missing or header.frames > 1:
            kind = "a multi-frame file among several" if header.frames > 1 else "a slice without a position"
            raise VolumeError(
                f"{kind} ({header.path.name})",
                expected="single slices with ImagePositionPatient, ImageOrientationPatient and PixelSpacing",
                fix="export the series again",
                path=path,
            )
        turned = not np.allclose(header.orientation or (), first.orientation or (), atol=1e-3)
        scaled = not np.allclose(header.pixel_spacing_mm or (), first.pixel_spacing_mm or (), rtol=1e-3)
        if turned or scaled or header.size != first.size:
            what = "directions" if turned else "pixel spacings" if scaled else "sizes"
            raise VolumeError(
                f"slices of different {what} in one series ({first.path.name} and {header.path.name})",
                expected="parallel slices of one size, as a localizer's are not",
                fix="put the slices of one stack in a folder of their own",
                path=path,
            )


def _axes(header: Slice) -> tuple[npt.NDArray[np.float64], ...]:
    """World unit vectors along array axes D, H, W of a stack of such slices."""
    along, down = np.array(header.orientation, float).reshape(2, 3)
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if min(lengths) < 0.5:
        raise VolumeError(f"ImageOrientationPatient {header.orientation}", path=header.path)
    along, down = along / lengths[0], down / lengths[1]
    return np.cross(along, down), down, along


def _slice_spacing_mm(
    path: Path,
    positions: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    names: Sequence[str],
    pixel_mm: float,
) -> float:
    """The one distance between ordered slices, or the reason why there is none."""
    heights = positions @ normal
    _check_steps(path, heights, names)
    steps = np.diff(heights)
    spacing_mm = float(heights[-1] - heights[0]) / len(steps)
    uneven = float(np.abs(heights - heights[0] - spacing_mm * np.arange(len(heights))).max())
    if uneven > UNEVEN_TOLERANCE * spacing_mm:
        raise VolumeError(
            f"unevenly spaced slices, {steps.min():.2f} to {steps.max():.2f} mm apart",
            expected="one distance between slices",
            fix="reconstruct or resample the series evenly",
            path=path,
        )
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    if float(np.linalg.norm(sideways, axis=1).max()) > TILT_TOLERANCE * pixel_mm:
        raise VolumeError(
            f"slices shifted sideways by {np.linalg.norm(sideways, axis=1).max():.2f} mm (gantry tilt)",
            expected="slices stacked along their normal",
            fix="correct the tilt first, e.g. with dcm2niix",
            path=path,
        )
    return spacing_mm


def _check_steps(path: Path, heights: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse two slices at one height, and a hole; heights ascend."""
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    at = int(np.argmin(steps))
    if steps[at] < SAME_PLACE_MM:
        raise VolumeError(
            f"two slices at one position: {names[at]} and {names[at + 1]}, at {heights[at]:.2f} mm",
            expected="one slice a position (several echoes, phases or time points in one series?)",
            fix="put the files of one volume in a folder of their own",
            path=path,
        )
    at = int(np.argmax(steps))
    if steps[at] > 1.5 * usual:
        raise VolumeError(
            f"a hole of {steps[at]:.2f} mm between slices {names[at]} and {names[at + 1]} "
            f"(at {heights[at]:.2f} and {heights[at + 1]:.2f} mm), the others {usual:.2f} mm apart",
            expected="evenly spaced slices",
            fix="find the missing slices, or leave out those on one side of the hole",
            path=path,
        )


def _lone_slice(header: Slice) -> Volume:
    pixels = _pixels(header)
    spacing_mm = header.pixel_spacing_mm or (1.0, 1.0)
    if header.position_mm is None or header.orientation is None:
        return Volume(pixels[..., 0, :, :], spacing_mm=spacing_mm)
    normal, down, along = _axes(header)
    return Volume(
        pixels,
        spacing_mm=(
            header.thickness_mm or 1.0,
            *spacing_mm,
        ),  # the one place where a thickness is all there is
        origin_mm=header.position_mm,
        direction=np.stack([normal, down, along], axis=1),
    )


def _pixels(header: Slice) -> npt.NDArray[Any]:
    """(1, rows, columns) or (channels, 1, rows, columns), rescaled by the file's own slope and intercept."""
    array = volume_of(read_image(header.path, image_io="GDCMImageIO")).array
    return array if array.ndim > 2 and array.shape[-3] == 1 else array[..., np.newaxis, :, :]


def _multi_frame(header: Slice) -> Volume:
    volume = volume_of(read_image(header.path, image_io="GDCMImageIO"))
    positions = _frame_positions(header)
    if len(positions) != header.frames or len(positions) < 2:
        raise VolumeError(
            f"multi-frame file of {header.frames} frames and {len(positions)} positions",
            expected="a position for each frame",
            fix="export it as single slices or NIfTI",
            path=header.path,
        )
    normal = np.asarray(volume.direction)[:, 0]
    names = [f"frame {number}" for number in range(1, len(positions) + 1)]
    order = np.argsort(positions @ normal, kind="stable")
    names = [names[k] for k in order]
    spacing_mm = _slice_spacing_mm(header.path, positions[order], normal, names, min(volume.spacing_mm[1:]))
    return Volume(
        np.take(volume.array, order, axis=-3),
        spacing_mm=(spacing_mm, *volume.spacing_mm[1:]),
        origin_mm=tuple(positions[order[0]]),
        direction=volume.direction,
    )


def _frame_positions(header: Slice) -> npt.NDArray[np.float64]:
    """ImagePositionPatient of each frame of an enhanced file, found as bytes before the pixels.

    ITK hands out no nested sequences, and its own geometry of a multi-frame file takes the frames to be even.
    """
    data = header.path.read_bytes()
    data = data[: max(data.rfind(b"\xe0\x7f\x10\x00"), 0)]
    found = re.findall(rb"\x20\x00\x32\x00(?:DS..|....)([-+0-9.eE ]+\\[-+0-9.eE ]+\\[-+0-9.eE ]+)", data, re.DOTALL)
    return np.array([[float(part) for part in text.split(b"\\")] for text in found]).reshape(-1, 3)
