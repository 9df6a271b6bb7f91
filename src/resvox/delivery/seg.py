"""A label map as DICOM Segmentation, through highdicom's volumes: placed by geometry, never by the name of a plane."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox._version import __version__
from resvox.delivery.naming import MANUFACTURER, Algorithm, LabelSet, NamedLabel, uid_of
from resvox.errors import InferenceError, VolumeError
from resvox.files import replacing

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

    from resvox.delivery.source import DicomSource
    from resvox.volumes import Volume

KINDS = ("auto", "binary", "labelmap", "fractional")
MOST_BINARY = (
    30  # segments that are present; beyond, one frame per segment and slice makes files that viewers load slowly
)
SERIES_NUMBER = 300  # far from those of scanners


@dataclass(frozen=True, kw_only=True)
class SegResult:
    """The file, its kind, and the names of labels that the scan does not show."""

    path: Path
    kind: str
    absent: tuple[str, ...]


def write_seg(
    volume: Volume,
    source: DicomSource,
    labels: LabelSet,
    path: Path,
    *,
    kind: str = "auto",
    algorithm: Algorithm | None = None,
) -> SegResult:
    """Write a segmentation of a DICOM series.

    Args:
        volume: the label map, (*spatial) whole numbers; for "fractional" probabilities (labels + 1, *spatial) with the
            background first, or (labels, *spatial). On any grid; it is brought to that of the series.
        source: the series; see `read_source`.
        labels: what the values mean. Labels that are absent become segments without frames: looked for, not found.
        path: the file; replaced atomically.
        kind: "binary" (one bit per pixel, a frame per segment and slice; every viewer reads it), "labelmap" (one frame
            per slice, run-length encoded; Supplement 243, newer viewers), "fractional" (probabilities), or "auto":
            binary for at most 30 labels present, labelmap beyond.
        algorithm: the model.

    Raises:
        InferenceError: highdicom is not installed. VolumeError: an unknown kind, values without a label, or a series
            that highdicom cannot refer to.
    """
    if kind not in KINDS:
        raise VolumeError(f"kind={kind!r}", expected=f"one of {', '.join(map(repr, KINDS))}")
    algorithm = algorithm or Algorithm()
    if kind == "fractional":
        pixels, present = _probabilities(volume, source, labels), {label.value for label in labels.labels}
    else:
        pixels = source.place(volume)
        present = {int(value) for value in np.unique(pixels)} - {0}
        check_values(present, labels)
        kind = kind if kind != "auto" else "binary" if len(present) <= MOST_BINARY else "labelmap"
    written = _segmentation(pixels, source, labels, kind, algorithm)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        written.save_as(temporary)
    absent = tuple(label.name for label in labels.labels if label.value not in present)
    return SegResult(path=path, kind=kind, absent=absent)


def check_values(present: set[int], labels: LabelSet) -> None:
    """Refuse values of a label map that no label names."""
    unknown = sorted(present - {label.value for label in labels.labels})
    if unknown:
        raise VolumeError(
            f"values {', '.join(map(str, unknown[:5]))} without a label",
            expected=f"only {', '.join(f'{label.value} ({label.name})' for label in labels.labels[:10])}",
            fix="name them in the labels",
        )


def _probabilities(volume: Volume, source: DicomSource, labels: LabelSet) -> np.ndarray[Any, Any]:
    """(slices, rows, columns, segments) float32 on the grid of the series."""
    from resvox.volumes import resample

    channels = volume.with_channel_axis()
    count = len(labels.labels)
    if volume.spatial_dims != 3 or len(channels) not in (count, count + 1):
        raise VolumeError(
            f"{volume.spatial_dims}D probabilities of {len(channels)} classes",
            expected=f"3D, with {count} classes or these and the background",
        )
    kept = volume.with_array(channels[len(channels) - count :])
    if not kept.grid.matches(source.grid):
        kept = resample(kept, source.grid)
    return np.clip(np.moveaxis(np.asarray(kept.array, np.float32), 0, -1), 0, 1)


def _segmentation(
    pixels: np.ndarray[Any, Any], source: DicomSource, labels: LabelSet, kind: str, algorithm: Algorithm
) -> Segmentation:
    hd = _highdicom()
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    numbered = {label.value: number for number, label in enumerate(labels.labels, start=1)}
    if kind == "fractional":
        array, channels = pixels, {hd.ChannelDescriptor("SegmentNumber"): list(numbered.values())}
    else:
        lookup = np.zeros(
            max([*numbered, int(pixels.max(initial=0))]) + 1, np.uint16 if len(numbered) > 255 else np.uint8
        )
        for value, number in numbered.items():
            lookup[value] = number
        array, channels = lookup[pixels], None
    grid = source.grid
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(grid.direction) * np.asarray(grid.spacing_mm)
    affine[:3, 3] = grid.origin_mm
    placed = hd.Volume(
        array, affine, coordinate_system="PATIENT", frame_of_reference_uid=source.frame_of_reference, channels=channels
    )
    series = uid_of(algorithm.identifier, source.uid, "SEG", kind)
    descriptions = [_description(label, numbered[label.value], source, algorithm) for label in labels.labels]
    with warnings.catch_warnings():
        # Segments without frames are meant: the structure was looked for.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return hd.seg.Segmentation(
                source_images=list(source.datasets),
                pixel_array=placed,
                segmentation_type=kind.upper(),
                segment_descriptions=descriptions,
                series_instance_uid=series,
                series_number=SERIES_NUMBER,
                sop_instance_uid=uid_of(series, "1"),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=algorithm.name[:64],
                software_versions=__version__,
                device_serial_number=(algorithm.identifier or "none")[:64],
                content_label="SEGMENTATION",
                series_description=f"Segmentation by {algorithm.name}"[:64],
                transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
            )
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise VolumeError(
                f"a series that a segmentation cannot refer to ({error})",
                expected="slices of one series with patient, study and frame of reference",
                path=source.files[0].parent,
            ) from error


def _description(label: NamedLabel, number: int, source: DicomSource, algorithm: Algorithm) -> SegmentDescription:
    hd = _highdicom()
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    def coded(code: Any) -> Code:
        return Code(code.value, code.scheme, code.meaning)

    red, green, blue = (int(label.colour[start : start + 2], 16) for start in (1, 3, 5))
    made = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:64],
        segmented_property_category=coded(label.structure.category),
        segmented_property_type=coded(label.structure.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.name[:64], family=codes.DCM.ArtificialIntelligence, version=algorithm.version[:64]
        ),
        tracking_uid=uid_of(algorithm.identifier, source.uid, label.name),
        tracking_id=label.name[:64],
        display_color=hd.color.CIELabColor.from_rgb(red, green, blue),
    )
    if label.structure.side is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(coded(label.structure.side))
        ]
    return made


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError as error:
        raise InferenceError(
            "highdicom is not installed, which writes DICOM SEG",
            expected="the extra dicom",
            fix="pip install 'resvox[dicom]'",
        ) from error
    return highdicom
