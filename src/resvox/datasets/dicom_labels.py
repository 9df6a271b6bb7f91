"""Label maps from DICOM Segmentation and RT Structure Set objects, on the grid of their scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.contours import fill
from resvox.errors import DatasetError, VolumeError
from resvox.volumes import Grid, Volume, resample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
BACKGROUND_TYPE = "125040"  # DCM code of the item that a label map segmentation has for value 0
OFF_PLANE = 0.5  # slices: a contour further than this from every slice lies on none
DRAWN = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class DicomLabels:
    """A label map and the names of its values; ``overlaps`` counts voxels that several structures claimed."""

    volume: Volume
    labels: Mapping[str, int]
    overlaps: int = 0


def is_dicom_labels(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT; False for anything that is not DICOM."""
    return path.is_file() and sop_class_of(path) in (SEGMENTATION, LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET)


def sop_class_of(path: Path) -> str:
    """The SOP class of a DICOM file, or "" for another file."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        found = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return ""
    return str(found.get("SOPClassUID", ""))


def read_dicom_labels(path: Path, grid: Grid, *, values: Mapping[str, int] | None = None) -> DicomLabels:
    """The label map of a SEG or RTSTRUCT, (*grid.shape).

    Args:
        path: the file.
        grid: of the scan that it belongs to.
        values: ``{name: value}`` to use, matched to the structures' names without regard to case; structures of other
            names are refused. None numbers the structures from 1 in the order of the file.

    Returns:
        Where structures overlap, the later one of the file is kept, and the voxels are counted.

    Raises:
        DatasetError: another kind of file, a structure that is not among ``values``, two structures of one name.
        VolumeError: a file that cannot be read, contours that lie on no slice, or open contours.
    """
    kind = sop_class_of(path)
    if kind == RT_STRUCTURE_SET:
        masks = _structures(path, grid)
    elif kind in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
        masks = _segments(path, grid)
    else:
        raise DatasetError("neither a DICOM SEG nor an RTSTRUCT", expected="a label map in one of these", path=path)
    names = [name for name, _ in masks]
    known = _values_of(names, values, path)
    array = np.zeros(grid.shape, np.uint8 if max(known.values(), default=0) < 256 else np.uint16)
    overlaps = 0
    for name, mask in masks:
        overlaps += int(np.count_nonzero(array[mask]))
        array[mask] = known[name]
    return DicomLabels(volume=Volume.on_grid(array, grid), labels=known, overlaps=overlaps)


def grid_of_labels(path: Path) -> Grid:
    """The grid that a SEG's own frames lie on.

    Raises:
        DatasetError: an RTSTRUCT, whose contours need the grid of their scan. VolumeError: an unreadable SEG.
    """
    if sop_class_of(path) == RT_STRUCTURE_SET:
        raise DatasetError(
            "an RTSTRUCT without its scan",
            expected="the series that it was drawn on",
            fix="name it as the scan",
            path=path,
        )
    with _reading_seg(path) as highdicom:
        frames = highdicom.seg.segread(path).get_volume(combine_segments=False, allow_missing_positions=True)
        return _volume_of(np.asarray(frames.array)[..., 0], np.asarray(frames.affine)).grid


def _values_of(names: list[str], values: Mapping[str, int] | None, path: Path) -> dict[str, int]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"two structures called {twice[0]!r}", expected="a name for each structure", path=path)
    if values is None:
        return {name: number for number, name in enumerate(names, start=1)}
    wanted = {name.casefold(): value for name, value in values.items()}
    unknown = [name for name in names if name.casefold() not in wanted]
    if unknown:
        raise DatasetError(
            f"structures {', '.join(unknown[:5])}, which the dataset does not declare",
            expected=f"among {', '.join(name for name, value in values.items() if value)}",
            fix="declare them under labels, or remove them from the file",
            path=path,
        )
    return {name: int(wanted[name.casefold()]) for name in names}


def _segments(path: Path, grid: Grid) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """(name, mask on the grid) of each segment of a SEG."""
    with _reading_seg(path) as highdicom:
        segmentation = highdicom.seg.segread(path)
        numbers = [n for n in segmentation.segment_numbers if _is_structure(segmentation.get_segment_description(n))]
        return [
            (str(segmentation.get_segment_description(number).segment_label), _mask(segmentation, number, grid))
            for number in numbers
        ]


@contextmanager
def _reading_seg(path: Path) -> Iterator[Any]:
    """highdicom, with its errors as one line that names the file."""
    try:
        import highdicom
    except ImportError as error:
        raise DatasetError(
            "highdicom is not installed, which reads DICOM SEG",
            expected="the extra dicom",
            fix="pip install 'resvox[dicom]'",
            path=path,
        ) from error
    try:
        yield highdicom
    except (ValueError, AttributeError, KeyError, RuntimeError, NotImplementedError, OSError) as error:
        raise VolumeError(
            f"a segmentation that cannot be read ({type(error).__name__}: {error})",
            expected="a DICOM SEG in patient coordinates",
            path=path,
        ) from error


def _is_structure(description: Any) -> bool:
    return str(description.segmented_property_type.value) != BACKGROUND_TYPE


def _mask(segmentation: Any, number: int, grid: Grid) -> np.ndarray[Any, Any]:
    """One segment on the grid; half and more of a fractional one counts."""
    frames = segmentation.get_volume(segment_numbers=[number], combine_segments=False, allow_missing_positions=True)
    placed = _volume_of(np.asarray(frames.array)[..., 0] >= 0.5, np.asarray(frames.affine))
    mask: np.ndarray[Any, Any] = resample(placed, grid, interpolation="nearest").array > 0
    return mask


def _volume_of(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> Volume:
    """highdicom's array (slices, rows, columns) and LPS affine as a volume."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Volume(
        array.astype(np.uint8),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(affine[:3, 3].tolist()),
        direction=affine[:3, :3] / spacing,
    )


def _structures(path: Path, grid: Grid) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """(name, mask) of each structure of an RTSTRUCT; rings of one slice are combined by exclusive or."""
    import pydicom

    dataset = pydicom.dcmread(path)
    names = {
        int(roi.ROINumber): str(roi.get("ROIName", "")).strip() for roi in dataset.get("StructureSetROISequence", [])
    }
    drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence", [])}
    return [
        (name or f"structure {number}", _drawn_mask(drawn.get(number), grid, path)) for number, name in names.items()
    ]


def _drawn_mask(item: Dataset | None, grid: Grid, path: Path) -> np.ndarray[Any, Any]:
    mask = np.zeros(grid.shape, bool)
    rings: dict[int, list[np.ndarray[Any, Any]]] = {}
    for contour in item.get("ContourSequence", []) if item is not None else []:
        kind = str(contour.get("ContourGeometricType", ""))
        points = np.asarray(contour.get("ContourData", []), dtype=float).reshape(-1, 3)
        if kind not in DRAWN:
            raise VolumeError(f"a contour of type {kind or '(none)'}", expected="CLOSED_PLANAR contours", path=path)
        if len(points) < 3:
            continue  # encloses nothing; planning systems write such points by accident
        index = grid.index(points)
        plane = round(float(index[:, 0].mean()))
        if np.abs(index[:, 0] - plane).max() > OFF_PLANE or not 0 <= plane < grid.shape[0]:
            raise VolumeError(
                f"a contour at slice {float(index[:, 0].mean()):.2f}",
                expected=f"contours on the {grid.shape[0]} slices of the scan",
                fix="name the series that the structures were drawn on",
                path=path,
            )
        rings.setdefault(plane, []).append(index[:, 1:])
    for plane, found in rings.items():
        mask[plane] = fill(found, (grid.shape[1], grid.shape[2]))
    return mask
