"""Label maps from one file format to another: NIfTI, NRRD, DICOM SEG, RTSTRUCT."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import VolumeError

if TYPE_CHECKING:
    from resvox.datasets.dicom_labels import DicomLabels
    from resvox.delivery.naming import LabelSet
    from resvox.delivery.source import DicomSource
    from resvox.volumes import Volume

DICOM_KINDS = ("seg", "labelmap", "rtstruct")
SEG_NRRD = ".seg.nrrd"


@dataclass(frozen=True, kw_only=True)
class ConvertLabelsResult:
    """The file, its kind, its labels, labels that are absent, and remarks for the reader."""

    path: Path
    kind: str
    labels: Mapping[str, int]
    absent: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def convert_labels(
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str | None = None,
    scan: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
    names: Mapping[str, int] | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> ConvertLabelsResult:
    """Write a label map in another format, on the grid of its scan.

    Args:
        labels: a label map (any image format), a DICOM SEG or an RTSTRUCT.
        out: the file. ``.dcm`` is DICOM, ``.seg.nrrd`` 3D Slicer's format; other endings are image formats, with the
            label names in a ``.json`` beside the file.
        to: for ``.dcm`` "seg", "labelmap" or "rtstruct"; None writes a SEG.
        scan: the scan: a DICOM folder for DICOM output and for RTSTRUCT input; for a SEG any image, or None for the
            grid of the SEG itself.
        series: of a DICOM folder that holds several.
        names: as for `view`; values without a name are called "label <value>".
        overwrite: replace a file that is there.

    Raises:
        VolumeError, DatasetError: files that cannot be read or do not belong together, no scan where one is needed.
        InferenceError: highdicom is not installed.
    """
    source, target = Path(labels), Path(out)
    if target.exists() and not overwrite:
        raise VolumeError("a file of this name exists", expected="a new name", fix="add --overwrite", path=target)
    is_dicom = target.suffix.lower() == ".dcm"
    if to is not None and not is_dicom:
        raise VolumeError(f"to={to!r} with the ending {target.suffix!r}", expected="a name that ends with .dcm")
    if to is not None and to not in DICOM_KINDS:
        raise VolumeError(f"to={to!r}", expected=f"one of {', '.join(DICOM_KINDS)}")
    found, known, remarks = _read(source, None if scan is None else Path(scan), series, names)
    if is_dicom:
        if scan is None:
            raise VolumeError(
                "a DICOM result without its series", expected="the series that the labels belong to",
                fix="name its folder with --scan", path=source,
            )  # fmt: skip
        return _write_dicom(found, known, target, to or "seg", _dicom_source(Path(scan), series), remarks)
    return _write_image(found, known, target, remarks)


def _read(
    source: Path,
    scan: Path | None,
    series: str | int | None,
    names: Mapping[str, int] | str | os.PathLike[str] | None,
) -> tuple[Volume, LabelSet, list[str]]:
    """The label map with names for all its values."""
    import numpy as np

    from resvox.datasets.dicom_labels import is_dicom_labels
    from resvox.delivery.naming import label_set
    from resvox.prediction.showing.label_names import find_names
    from resvox.volumes import read_volume

    remarks: list[str] = []
    if is_dicom_labels(source):
        read = _from_dicom(source, scan, series)
        if read.overlaps:
            remarks.append(f"{read.overlaps} voxels belonged to several structures; the later one was kept")
        return read.volume, label_set(read.labels), remarks
    volume = read_volume(source)
    known = find_names(names, [source])
    values = [int(value) for value in np.unique(volume.array) if value != 0]
    unnamed = {f"label {value}": value for value in values if value not in set(known.labels.values())}
    return volume, label_set({**known.labels, **unnamed}, colours=known.colours, codes=known.codes), remarks


def _from_dicom(source: Path, scan: Path | None, series: str | int | None) -> DicomLabels:
    from resvox.datasets.dicom_labels import grid_of_labels, read_dicom_labels
    from resvox.volumes import read_volume

    if scan is None:
        return read_dicom_labels(source, grid_of_labels(source))
    grid = _dicom_source(scan, series).grid if scan.is_dir() else read_volume(scan).grid
    return read_dicom_labels(source, grid)


def _dicom_source(scan: Path, series: str | int | None) -> DicomSource:
    from resvox.delivery.source import read_source

    return read_source(scan, series=series)


def _write_dicom(
    volume: Volume, labels: LabelSet, target: Path, kind: str, source: DicomSource, remarks: list[str]
) -> ConvertLabelsResult:
    from resvox.delivery.rtstruct import write_rtstruct
    from resvox.delivery.seg import write_seg

    if kind == "rtstruct":
        absent = write_rtstruct(volume, source, labels, target).absent
    else:
        made = write_seg(volume, source, labels, target, kind="auto" if kind == "seg" else kind)
        absent, kind = made.absent, made.kind
    values = {label.name: label.value for label in labels.labels}
    return ConvertLabelsResult(path=target, kind=kind, labels=values, absent=absent, remarks=tuple(remarks))


def _write_image(volume: Volume, labels: LabelSet, target: Path, remarks: list[str]) -> ConvertLabelsResult:
    from resvox.delivery.label_files import write_seg_nrrd, write_sidecar
    from resvox.volumes import write_label_map
    from resvox.volumes.formats import stem_of

    if target.name.lower().endswith(SEG_NRRD):
        write_seg_nrrd(volume, labels, target)
    else:
        write_label_map(volume, target)
        write_sidecar(volume, labels, target.with_name(f"{stem_of(target)}.json"))
    values = {label.name: label.value for label in labels.labels}
    return ConvertLabelsResult(path=target, kind=target.suffix.lstrip("."), labels=values, remarks=tuple(remarks))
