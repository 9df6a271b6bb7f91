"""The files of one segmented case: label map, DICOM object, names of the labels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
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

USUAL_FORMAT = "nii.gz"
REGION = "_region_"  # between the name of a case and that of a region
# behind the name of a case
PROBABILITIES, UNCERTAINTY, DISAGREEMENT = "_probabilities.nii.gz", "_uncertainty.nii.gz", "_disagreement.nii.gz"
BESIDE = (PROBABILITIES, UNCERTAINTY, DISAGREEMENT)


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The names of a case's files in the output folder; None for those that are not written."""

    label_map: str | None
    dicom: str | None
    sidecar: str | None
    spacing: str | None = None
    regions: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that are written, the one whose presence means "done" as the last."""
        return tuple(
            name for name in (*self.regions, self.sidecar, self.spacing, self.dicom, self.label_map) if name is not None
        )


def case_files(
    name: str,
    options: PredictOptions,
    *,
    is_picture: bool,
    is_stack: bool = False,
    regions: Sequence[str] = (),
) -> CaseFiles:
    """The files of the case ``name`` (its id and the suffix); a 2D picture gets a picture as its label map.

    Args:
        is_stack: a stack of TIFF whose label map is one too, with its spacing in a JSON file beside it, unless another
            format than the usual one is asked for.
        regions: the names of the regions of which masks are written.
    """
    is_stack = is_stack and options.format == USUAL_FORMAT
    ending = "png" if is_picture else "tif" if is_stack else options.format
    return CaseFiles(
        label_map=None if options.format == "none" else f"{name}.{ending}",
        dicom=None if options.dicom is None else f"{name}_{options.dicom}.dcm",
        sidecar=f"{name}.json" if options.sidecar else None,
        spacing=f"{name}.json" if is_stack and not options.sidecar else None,  # a sidecar states it, too
        regions=tuple(f"{name}{REGION}{each}.{_mask_ending(ending)}" for each in _file_words(regions)),
    )


def _mask_ending(ending: str) -> str:
    """The ending of a mask, which has neither names nor colours."""
    return {"none": "nii.gz", "tif": "nii.gz", "seg.nrrd": "nrrd"}.get(ending, ending)


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF by its ending."""
    from resvox.volumes.formats import format_of

    row = format_of(path)
    return row is not None and row.name == "TIFF"


def _file_words(names: Sequence[str]) -> list[str]:
    """Names as parts of file names, each another one also where upper and lower case are one."""
    words: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w-]+", "_", name).strip("_") or "region"
        taken = {word.casefold() for word in words}
        numbered = (plain if number == 1 else f"{plain}_{number}" for number in itertools.count(1))
        words.append(next(word for word in numbered if word.casefold() not in taken))
    return words


def write_masks(masks: Volume, names: Sequence[str], folder: Path) -> None:
    """Write masks (regions, *spatial) to one file each."""
    from resvox.volumes import Volume, write_label_map

    for mask, name in zip(masks.array, names, strict=True):
        write_label_map(Volume.on_grid(mask, masks.grid), folder / name)


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


def label_set_of(card: SegmentationCard) -> LabelSet:
    """The labels of a model with colours and codes."""
    from resvox.delivery.naming import label_set

    return label_set(card.labels, colours=card.colours, codes=card.codes)


def algorithm_of(path: Path) -> Algorithm:
    """What DICOM objects say of the model: the name of its file or run, and a digest of its contents."""
    from resvox.delivery.naming import Algorithm
    from resvox.digests import digest_of

    name = path.parent.resolve().name if path.name == "model.safetensors" else path.stem
    return Algorithm(name=name or "resvox", identifier=digest_of(path)[:32])


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
    from resvox.volumes.tiff import write_spacing_file

    out = options.out
    if files.sidecar is not None and labels is not None:
        write_sidecar(label_map, labels, out / files.sidecar)
    if files.spacing is not None:
        write_spacing_file(label_map, out / files.spacing)
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
