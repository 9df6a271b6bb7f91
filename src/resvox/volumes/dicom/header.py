"""The header of one DICOM file: its series, and the position of every image plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from resvox.errors import VolumeError
from resvox.volumes.dicom.attributes import groups_of, integer, macro_of, numbers, read_dataset, shown, value_of
from resvox.volumes.dicom.kinds import is_private_class, kind_of_sop_class

HEADER_TAGS = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
        "ImageType",
    ),
    *("SpecificCharacterSet", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
META_CLASS = "MediaStorageSOPClassUID"  # in the file's meta information
MOSAIC_WORDS = ("MOSAIC", "VFRAME")  # of ImageType, by Siemens and United Imaging


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One image plane: a single-frame file, or one frame of a multi-frame file.

    Args:
        path: its file.
        index: which frame of the file, from 0.
        frames: how many frames the file has.
        size: rows, columns.
        samples: values per pixel, 1 or 3.
        photometric: PhotometricInterpretation.
        pixel_spacing_mm: between rows, between columns; None where the file does not define it.
        position_mm: centre of the first pixel (x, y, z; LPS), or None.
        orientation: unit vectors along a row (growing column) and along a column (growing row), or None.
        thickness_mm: used for a single plane only; between planes the positions decide.
    """

    path: Path
    index: int
    frames: int
    size: tuple[int, int]
    samples: int
    photometric: str
    pixel_spacing_mm: tuple[float, float] | None
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    thickness_mm: float | None

    def name_within(self, path: Path) -> str:
        """The name of this plane in a message that starts with `path`, the file itself or a folder above it."""
        if self.path == path:
            return f"frame {self.index + 1}"
        name = self.path.relative_to(path).as_posix()
        return name if self.frames == 1 else f"{name} frame {self.index + 1}"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of one DICOM image file.

    Args:
        path: the file.
        series_uid: SeriesInstanceUID, "" where it is missing.
        series_number: SeriesNumber, or None.
        description: SeriesDescription.
        modality: Modality, e.g. "CT".
        frames: NumberOfFrames, 1 where it is missing.
        planes: the planes in the order of the file; empty where `problem` is set.
        problem: why the file cannot be placed in a volume. It is raised when the file's series is read, so that a
            folder can be listed, and its other series read.
    """

    path: Path
    series_uid: str
    series_number: int | None
    description: str
    modality: str
    frames: int
    planes: tuple[Plane, ...]
    problem: VolumeError | None = None


class NoScanError(VolumeError):
    """A DICOM file of a kind that holds no scan; it is skipped in a folder."""


def read_header(path: Path) -> Header:
    """The header of a DICOM image file.

    Raises:
        NoScanError: it is of a kind that holds no scan.
        VolumeError: it is damaged, or not an image.
    """
    dataset = read_dataset(path, HEADER_TAGS)
    size = tuple(integer(dataset, name, path) or 0 for name in ("Rows", "Columns"))
    kind = _kind(dataset, path, has_pixels=min(size) > 0)
    if kind is not None:
        raise NoScanError(
            f"{kind}, which holds no scan",
            expected="a DICOM image",
            fix="name the image file or the folder of its series",
            path=path,
        )
    if min(size) < 1:
        raise VolumeError(
            f"damaged DICOM file, or not an image ({size[0]} Rows, {size[1]} Columns)",
            expected="a DICOM image",
            fix="export it again, or remove it",
            path=path,
        )
    frames = 1
    planes: tuple[Plane, ...] = ()
    problem: VolumeError | None = None
    try:
        frames = _frame_count(dataset, path)
        planes = _planes(dataset, path, frames)
    except VolumeError as error:
        problem = error
    return Header(
        path=path,
        series_uid=str(value_of(dataset, "SeriesInstanceUID", path) or ""),
        series_number=integer(dataset, "SeriesNumber", path),
        description=shown(str(value_of(dataset, "SeriesDescription", path) or "")),
        modality=shown(str(value_of(dataset, "Modality", path) or "")),
        frames=frames,
        planes=planes,
        problem=problem,
    )


def _kind(dataset: Dataset, path: Path, *, has_pixels: bool) -> str | None:
    """The kind of a file that holds no scan, or None."""
    meta: Dataset = getattr(dataset, "file_meta", None) or Dataset()
    classes = [str(value_of(dataset, "SOPClassUID", path) or ""), str(value_of(meta, META_CLASS, path) or "")]
    for sop_class in classes:
        kind = kind_of_sop_class(sop_class)
        if kind is not None:
            return kind
    if (
        not has_pixels and is_private_class(classes[0]) and classes[0] == classes[1]
    ):  # equal in both places: not damaged
        return f"a vendor's object without pixels ({classes[0]})"
    return None


def _frame_count(dataset: Dataset, path: Path) -> int:
    frames = integer(dataset, "NumberOfFrames", path)
    if frames is not None and frames < 1:
        raise VolumeError(f"NumberOfFrames is {frames}", expected="at least 1", fix="export it again", path=path)
    return frames or 1


def _planes(dataset: Dataset, path: Path, frames: int) -> tuple[Plane, ...]:
    words = {str(word).strip().upper() for word in value_of(dataset, "ImageType", path) or ()}
    found = sorted(words & set(MOSAIC_WORDS))
    if found:
        raise VolumeError(
            f"a mosaic ({found[0]} in ImageType): one image tiled of many slices",
            expected="one image per slice, or an enhanced multi-frame file",
            fix="convert the series to NIfTI with dcm2niix, or export it without mosaic",
            path=path,
        )
    shared, each = groups_of(dataset, path)
    if frames > 1 and len(each) != frames:
        raise VolumeError(
            f"multi-frame file of {frames} frames and {len(each)} positions",
            expected="a position for each frame (an enhanced multi-frame image)",
            fix="export it as single slices or NIfTI; frames over time are not a volume",
            path=path,
        )
    return tuple(
        _plane(dataset, path, index, frames, each[index] if index < len(each) else None, shared)
        for index in range(frames)
    )


def _plane(
    dataset: Dataset, path: Path, index: int, frames: int, group: Dataset | None, shared: Dataset | None
) -> Plane:
    measures = macro_of(group, shared, "PixelMeasuresSequence", path) or dataset
    place = macro_of(group, shared, "PlanePositionSequence", path) or (dataset if frames == 1 else None)
    turn = macro_of(group, shared, "PlaneOrientationSequence", path) or dataset
    position = numbers(place, "ImagePositionPatient", 3, path)
    orientation = numbers(turn, "ImageOrientationPatient", 6, path)
    spacing = numbers(measures, "PixelSpacing", 2, path)
    if spacing is None and position is None:  # a projection or picture: the sizes at the detector or of the film
        spacing = numbers(dataset, "ImagerPixelSpacing", 2, path)
        spacing = spacing or numbers(dataset, "NominalScannedPixelSpacing", 2, path)
    if position is None and spacing == (0, 0):
        spacing = None  # what some radiographs write for "unknown"
    if spacing is not None and min(spacing) <= 0:
        raise VolumeError(
            f"pixel spacing {spacing[0]:g} x {spacing[1]:g} mm",
            expected="PixelSpacing above 0",
            fix="export the image again, or correct the attribute",
            path=path,
        )
    thickness = numbers(measures, "SliceThickness", 1, path) or numbers(measures, "SpacingBetweenSlices", 1, path)
    return Plane(
        path=path,
        index=index,
        frames=frames,
        size=(integer(dataset, "Rows", path) or 0, integer(dataset, "Columns", path) or 0),
        samples=integer(dataset, "SamplesPerPixel", path) or 1,
        photometric=str(value_of(dataset, "PhotometricInterpretation", path) or "MONOCHROME2").strip(),
        pixel_spacing_mm=(spacing[0], spacing[1]) if spacing else None,
        position_mm=(position[0], position[1], position[2]) if position else None,
        orientation=orientation,
        thickness_mm=abs(thickness[0]) if thickness and thickness[0] else None,
    )
