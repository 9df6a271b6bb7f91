"""Image planes in space: one evenly spaced stack along its normal, or the reason why they are not a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.dicom.attributes import shown
from resvox.volumes.dicom.duplicates import difference_between
from resvox.volumes.dicom.header import Plane
from resvox.volumes.grid import Grid

UNEVEN_TOLERANCE = 0.1  # of the slice spacing: scanners round positions; a missing slice is a whole spacing
TILT_TOLERANCE = 0.5  # of a pixel, over the whole series
SAME_PLACE_MM = 1e-3
COSINE_TOLERANCE = 1e-3  # of a direction cosine; scanners write as few as four digits
SPACING_TOLERANCE = 1e-3  # of a pixel spacing
NAMES_IN_A_MESSAGE = 3


def stacked(path: Path, planes: Sequence[Plane]) -> tuple[list[Plane], Grid]:
    """Planes in spatial order along their normal, and the grid that they form.

    The normal is the cross product of the row's and the column's direction, so that the order of slices does
    not depend on file names; frames of one file keep the sense in which the file holds them.

    Args:
        path: the folder or the multi-frame file, for messages.
        planes: at least two.

    Raises:
        VolumeError: an attribute of the geometry is missing; planes differ in size, colour, direction or spacing; two
            have the same position; a plane is missing; they are unevenly spaced or tilted.
    """
    check_complete(planes, path)
    check_alike(planes, path)
    first = planes[0]
    assert first.pixel_spacing_mm is not None
    positions = np.array([plane.position_mm for plane in planes], float)
    normal, down, along = axes_of(first)
    if first.path == planes[-1].path and float((positions[-1] - positions[0]) @ normal) < 0:
        normal = -normal  # the frames of one file keep their order
    order = np.argsort(positions @ normal, kind="stable")
    ordered = [planes[k] for k in order]
    spacing_mm = _slice_spacing_mm(path, positions[order], normal, ordered)
    grid = Grid(
        (len(planes), *first.size),
        spacing_mm=(spacing_mm, *first.pixel_spacing_mm),
        origin_mm=tuple(positions[order[0]]),
        direction=np.stack([normal, down, along], axis=1),
    )
    return ordered, grid


def axes_of(plane: Plane) -> tuple[npt.NDArray[np.float64], ...]:
    """World unit vectors along array axes D, H, W of a stack of such planes."""
    along, down = np.array(plane.orientation, float).reshape(2, 3)
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if min(lengths) < 0.5 or abs(float(along @ down)) > 0.1 * float(lengths[0] * lengths[1]):
        raise VolumeError(
            f"ImageOrientationPatient is {_numbers(plane.orientation)}",
            expected="two unit vectors at right angles",
            fix="correct the attribute, or export the image again",
            path=plane.path,
        )
    along, down = along / lengths[0], down / lengths[1]
    normal = np.cross(along, down)
    return normal / np.linalg.norm(normal), down, along


def check_complete(planes: Sequence[Plane], path: Path) -> None:
    """Reject planes of which one lacks a position, an orientation or a spacing."""
    wanted = {
        "ImagePositionPatient": ("a position", [plane for plane in planes if plane.position_mm is None]),
        "ImageOrientationPatient": ("an orientation", [plane for plane in planes if plane.orientation is None]),
        "PixelSpacing": ("a pixel spacing", [plane for plane in planes if plane.pixel_spacing_mm is None]),
    }
    for attribute, (what, lacking) in wanted.items():
        if lacking:
            count = "a slice" if len(lacking) == 1 else f"{len(lacking)} of {len(planes)} slices"
            fix = "export the series again with these attributes, or remove files that are not slices of it"
            if all(plane.position_mm is None for plane in planes):
                fix = "name each file by itself if these are single images, or export the series with these attributes"
            raise VolumeError(
                f"{count} without {what}, no {attribute} in {_names(lacking, path)}",
                expected="ImagePositionPatient, ImageOrientationPatient and PixelSpacing in every slice",
                fix=fix,
                path=path,
            )


def check_alike(planes: Sequence[Plane], path: Path) -> None:
    """Reject planes that are not a stack (colours, sizes, directions, spacings); the error names the fewer ones."""
    kinds = [(plane.samples, "colour" if plane.samples > 1 else "grey") for plane in planes]
    usual_kind = Counter(kinds).most_common(1)[0][0]
    usual_size = Counter(plane.size for plane in planes).most_common(1)[0][0]
    _refuse_odd("colours", planes, [kind != usual_kind for kind in kinds], _colour, path)
    _refuse_odd("sizes", planes, [plane.size != usual_size for plane in planes], _size, path)
    turns = np.array([plane.orientation for plane in planes], float)
    turned = np.abs(turns - np.median(turns, axis=0)).max(axis=1) > COSINE_TOLERANCE
    _refuse_odd("directions", planes, turned, lambda plane: _numbers(plane.orientation), path)
    sizes = np.array([plane.pixel_spacing_mm for plane in planes], float)
    usual = np.median(sizes, axis=0)
    scaled = (np.abs(sizes - usual) > SPACING_TOLERANCE * usual).any(axis=1)
    _refuse_odd("pixel spacings", planes, scaled, lambda plane: f"{_numbers(plane.pixel_spacing_mm)} mm", path)


def _refuse_odd(
    what: str,
    planes: Sequence[Plane],
    odd: Sequence[bool] | npt.NDArray[np.bool_],
    show: Callable[[Plane], str],
    path: Path,
) -> None:
    """Raise if some planes differ from the majority; without a majority the first two different ones are named."""
    strange = [plane for plane, differs in zip(planes, odd, strict=True) if differs]
    if not strange:
        return
    usual = next((plane for plane, differs in zip(planes, odd, strict=True) if not differs), None)
    if usual is None:
        usual = strange[0]
        strange = [plane for plane in strange[1:] if show(plane) != show(usual)] or strange[1:]
    raise VolumeError(
        f"slices of different {what} in one series: {show(strange[0])} in {_names(strange, path)}, "
        f"{show(usual)} in {usual.name_within(path)}",
        expected="parallel slices of one kind and size, as those of a localizer are not",
        fix="remove the slices that do not belong, or put those of one stack in a folder of their own",
        path=path,
    )


def _colour(plane: Plane) -> str:
    return f"{plane.samples} values per pixel ({shown(plane.photometric)})"


def _size(plane: Plane) -> str:
    return f"{plane.size[0]} x {plane.size[1]}"


def _numbers(values: Sequence[float] | None) -> str:
    return "\\".join(f"{value:.4g}" for value in values or ())


def _names(planes: Sequence[Plane], path: Path) -> str:
    names = [plane.name_within(path) for plane in planes[:NAMES_IN_A_MESSAGE]]
    more = len(planes) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _slice_spacing_mm(
    path: Path, positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], ordered: Sequence[Plane]
) -> float:
    """The distance between ordered slices, or an error if it varies."""
    heights = positions @ normal
    _check_steps(path, heights, ordered)
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
    shift_mm = float(np.linalg.norm(sideways, axis=1).max())
    if shift_mm > TILT_TOLERANCE * min(ordered[0].pixel_spacing_mm or (1.0,)):
        raise VolumeError(
            f"slices shifted sideways by {shift_mm:.2f} mm (gantry tilt)",
            expected="slices stacked along their normal",
            fix="correct the tilt first, e.g. with dcm2niix",
            path=path,
        )
    return spacing_mm


def _check_steps(path: Path, heights: npt.NDArray[np.float64], ordered: Sequence[Plane]) -> None:
    """Reject two slices at one height, and a gap; heights ascend."""
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    names = [plane.name_within(path) for plane in ordered]
    at = int(np.argmin(steps))
    if steps[at] < SAME_PLACE_MM:
        difference, fix = difference_between(ordered[at], ordered[at + 1])
        raise VolumeError(
            f"two slices at one position: {names[at]} and {names[at + 1]}, at {heights[at]:.2f} mm{difference}",
            expected="one slice per position",
            fix=fix,
            path=path,
        )
    at = int(np.argmax(steps))
    if steps[at] > 1.5 * usual:
        raise VolumeError(
            f"a gap of {steps[at]:.2f} mm between slices {names[at]} and {names[at + 1]} "
            f"(at {heights[at]:.2f} and {heights[at + 1]:.2f} mm), the others {usual:.2f} mm apart",
            expected="evenly spaced slices",
            fix="find the missing slices, or leave out those on one side of the gap",
            path=path,
        )
