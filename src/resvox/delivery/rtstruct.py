"""A label map as DICOM RT Structure Set: closed planar contours on the slices of the series."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox._version import __version__
from resvox.datasets.contours import rings_of
from resvox.delivery.naming import MANUFACTURER, Algorithm, LabelSet, NamedLabel, uid_of
from resvox.files import replacing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from resvox.delivery.source import DicomSource
    from resvox.volumes import Volume
    from resvox.volumes.dicom.header import Plane

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, as planning systems expect it here
SERIES_NUMBER = 301
# Of the patient and the study, copied from the source.
COPIED = (
    "SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "FrameOfReferenceUID", "PositionReferenceIndicator",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RtStructResult:
    """The file, the number of contours, and the names of labels that the scan does not show."""

    path: Path
    contours: int
    absent: tuple[str, ...]


def write_rtstruct(
    volume: Volume, source: DicomSource, labels: LabelSet, path: Path, *, algorithm: Algorithm | None = None
) -> RtStructResult:
    """Write the contours of a label map.

    Contours follow the edges of pixels, so they enclose exactly the labelled pixels; holes are joined to the ring
    around them; each contour lies in the plane of its slice and refers to it.

    Args:
        volume: the label map, (*spatial) whole numbers, on any grid.
        source, labels, path, algorithm: as for `write_seg`. Labels that are absent become structures without contours.

    Raises:
        VolumeError: values without a label, or a label map that cannot be placed.
    """
    from resvox.delivery.seg import check_values

    algorithm = algorithm or Algorithm()
    pixels = source.place(volume)
    present = {int(value) for value in np.unique(pixels)} - {0}
    check_values(present, labels)
    dataset = _header(source, algorithm)
    total = 0
    for number, label in enumerate(labels.labels, start=1):
        contours = _contours(pixels, label.value, source) if label.value in present else []
        total += len(contours)
        _add_structure(dataset, number, label, contours, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    absent = tuple(label.name for label in labels.labels if label.value not in present)
    return RtStructResult(path=path, contours=total, absent=absent)


def _contours(pixels: np.ndarray[Any, Any], value: int, source: DicomSource) -> list[Dataset]:
    """The contours of one label, slice by slice."""
    found = []
    mask = pixels == value
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        plane = source.planes[index]
        reference = _reference(source, plane)
        for ring in rings_of(mask[index][box]):
            corners = ring + np.array([rows[0], columns[0]]) - 0.5
            found.append(_contour(corners, plane, reference))
    return found


def _contour(corners: np.ndarray[Any, Any], plane: Plane, reference: Dataset) -> Dataset:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    contour = Dataset()
    contour.ContourImageSequence = [reference]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(corners)
    text = "\\".join(map(_decimal, _world_mm(corners, plane).ravel().tolist())).encode("ascii")
    # As bytes that are written as they are: pydicom's decimal strings, one object per number, take most of the time.
    value = text + b" " * (len(text) % 2)
    tag = Tag("ContourData")
    contour[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    contour.set_original_encoding(False, True, "iso8859")
    return contour


def _world_mm(corners: np.ndarray[Any, Any], plane: Plane) -> np.ndarray[Any, Any]:
    """(points, 3) LPS mm of pixel coordinates (row, column), by the plane's own position and orientation."""
    assert plane.position_mm is not None
    assert plane.pixel_spacing_mm is not None
    along, down = np.asarray(plane.orientation, float).reshape(2, 3)
    between_rows, between_columns = plane.pixel_spacing_mm
    steps = corners[:, :1] * between_rows * down + corners[:, 1:] * between_columns * along
    positions: np.ndarray[Any, Any] = np.asarray(plane.position_mm, float) + steps
    return positions


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, exact to 1e-6 mm and better."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return text if len(text) <= 16 else f"{value:.10g}"


def _reference(source: DicomSource, plane: Plane) -> Dataset:
    from pydicom.dataset import Dataset

    dataset, reference = source.dataset_of(plane), Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    if plane.frames > 1:
        reference.ReferencedFrameNumber = plane.index + 1
    return reference


def _header(source: DicomSource, algorithm: Algorithm) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    first = source.datasets[0]
    now = datetime.datetime.now()
    series = uid_of(algorithm.identifier, source.uid, "RTSTRUCT")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(RT_STRUCTURE_SET)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid_of(series, "1"))
    for name in COPIED:
        if name in first:
            setattr(dataset, name, getattr(first, name))
    dataset.SOPClassUID = RT_STRUCTURE_SET
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = f"Structures by {algorithm.name}"[:64]
    dataset.Modality = "RTSTRUCT"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = algorithm.name[:64]
    dataset.SoftwareVersions = __version__
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = "resvox"
    dataset.StructureSetDate, dataset.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.StructureSetDate, dataset.StructureSetTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_series(source)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    return dataset


def _referenced_series(source: DicomSource) -> Dataset:
    """The frame of reference, the study, and every image of the series."""
    from pydicom.dataset import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.uid
    series.ContourImageSequence = []
    for dataset in source.datasets:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
        series.ContourImageSequence.append(image)
    study.ReferencedSOPClassUID = STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = source.datasets[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def _add_structure(
    dataset: Dataset, number: int, label: NamedLabel, contours: list[Dataset], source: DicomSource
) -> None:
    from pydicom.dataset import Dataset

    roi, drawn, observed = Dataset(), Dataset(), Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = source.frame_of_reference
    roi.ROIName = label.name[:64]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    drawn.ROIDisplayColor = [int(label.colour[start : start + 2], 16) for start in (1, 3, 5)]
    drawn.ReferencedROINumber = number
    if contours:
        drawn.ContourSequence = contours
    observed.ObservationNumber = number
    observed.ReferencedROINumber = number
    observed.RTROIInterpretedType = "ORGAN" if label.structure.category.meaning.startswith("Anatomical") else ""
    observed.ROIInterpreter = ""
    observed.RTROIIdentificationCodeSequence = [_code(label)]
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(drawn)
    dataset.RTROIObservationsSequence.append(observed)


def _code(label: NamedLabel) -> Dataset:
    from pydicom.dataset import Dataset

    item, code = Dataset(), label.structure.type
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
