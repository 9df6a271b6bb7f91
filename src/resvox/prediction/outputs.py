"""The files of one segmented case: label map, DICOM object, names of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from resvox.cards.segmentation import SegmentationCard
    from resvox.delivery.naming import Algorithm, LabelSet
    from resvox.prediction.cases import Case
    from resvox.prediction.options import PredictOptions
    from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The names of a case's files in the output folder; None for those that are not written."""

    label_map: str | None
    dicom: str | None
    sidecar: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """All that are written, the one whose presence means "done" as the last."""
        return tuple(name for name in (self.sidecar, self.dicom, self.label_map) if name is not None)


def case_files(name: str, options: PredictOptions, *, is_picture: bool) -> CaseFiles:
    """The files of the case ``name`` (its id and the suffix); a 2D picture gets a picture as its label map."""
    ending = "png" if is_picture else options.format
    return CaseFiles(
        label_map=None if options.format == "none" else f"{name}.{ending}",
        dicom=None if options.dicom is None else f"{name}_{options.dicom}.dcm",
        sidecar=f"{name}.json" if options.sidecar else None,
    )


def check_dicom_input(case: Case) -> None:
    """Refuse a scan that a DICOM object cannot refer to, before the network is run.

    Raises:
        InferenceError: a scan that is not one DICOM series. VolumeError: see `read_source`.
    """
    from resvox.delivery.source import read_source
    from resvox.volumes.dicom import is_dicom

    first = case.files[0]
    if len(case.files) > 1 or not (first.is_dir() or is_dicom(first)):
        raise InferenceError(
            "a DICOM result for a scan that is not DICOM",
            expected="the folder of a DICOM series, or a multi-frame file",
            fix="leave --dicom out, or later: resvox convert-labels LABELS --scan SERIES -o X.dcm",
            path=first,
        )
    read_source(first, series=case.series)


def labels_of(card: SegmentationCard) -> LabelSet:
    """The labels of a model with colours and codes."""
    from resvox.delivery.naming import label_set

    return label_set(card.labels, colours=card.colours, codes=card.codes)


def algorithm_of(path: Path) -> Algorithm:
    """What DICOM objects say of the model: the name of its file or run, and a digest of its contents."""
    from resvox.delivery.naming import Algorithm
    from resvox.files import sha256_of

    name = path.parent.resolve().name if path.name == "model.safetensors" else path.stem
    return Algorithm(name=name or "resvox", identifier=sha256_of(path)[:32])


def write_case(
    case: Case,
    label_map: Volume,
    files: CaseFiles,
    options: PredictOptions,
    labels: LabelSet | None,
    algorithm: Algorithm | None,
) -> Path:
    """Write all files of a case and return the last one.

    Args:
        labels, algorithm: needed for all but a plain label map.
    """
    from resvox.delivery.label_files import write_seg_nrrd, write_sidecar
    from resvox.volumes import write_label_map

    out = options.out
    if files.sidecar is not None and labels is not None:
        write_sidecar(label_map, labels, out / files.sidecar)
    if files.dicom is not None and labels is not None:
        _write_dicom(case, label_map, out / files.dicom, str(options.dicom), labels, algorithm)
    if files.label_map is not None:
        target = out / files.label_map
        if options.format == "seg.nrrd" and labels is not None and not files.label_map.endswith(".png"):
            write_seg_nrrd(label_map, labels, target)
        else:
            write_label_map(label_map, target)
    return out / files.names[-1]


def _write_dicom(
    case: Case, label_map: Volume, target: Path, kind: str, labels: LabelSet, algorithm: Algorithm | None
) -> None:
    from resvox.delivery.rtstruct import write_rtstruct
    from resvox.delivery.seg import write_seg
    from resvox.delivery.source import read_source

    source = read_source(case.files[0], series=case.series)
    if kind == "rtstruct":
        write_rtstruct(label_map, source, labels, target, algorithm=algorithm)
    else:
        write_seg(label_map, source, labels, target, kind="auto" if kind == "seg" else kind, algorithm=algorithm)
