"""What predictors of label maps have in common: scans are found and read, and the files of a case are written."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError
from resvox.prediction.outputs import (
    DISAGREEMENT,
    PROBABILITIES,
    UNCERTAINTY,
    CaseFiles,
    algorithm_of,
    case_files,
    check_dicom_input,
    is_tiff,
    label_set_of,
    write_case,
    write_masks,
)
from resvox.prediction.predictor import Written
from resvox.prediction.uncertainty.review import doubt_fields

if TYPE_CHECKING:
    from typing_extensions import Self

    from resvox.cards import ModelCard, SegmentationCard
    from resvox.delivery.naming import Algorithm, LabelSet
    from resvox.inference.uncertainty.doubt import DoubtScores
    from resvox.locks import Claims
    from resvox.prediction.cases import Case, Found
    from resvox.prediction.log import RunLog
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.results import Results
    from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A label map on the grid of its scan, probabilities and masks of regions if wanted, and seconds per stage.

    ``windows``: how many there were; ``skipped``: how many of these were passed over as empty. ``log``: what the line
    of the scan in predict.jsonl has about its speed. Where doubt is wanted, ``uncertainty`` is its map,
    ``disagreement`` that of several networks, and ``doubt`` their scores.
    """

    label_map: Volume
    probabilities: Volume | None
    seconds: Mapping[str, float]
    windows: int = 0
    skipped: int = 0
    region_masks: Volume | None = None
    log: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: Volume | None = None
    disagreement: Volume | None = None
    doubt: DoubtScores | None = None


def check_label_options(card: SegmentationCard, options: PredictOptions, path: Path) -> None:
    """Refuse options of which one would have no effect, or wrong results, beside another.

    Raises:
        InferenceError: naming both.
    """
    wanted = [name for name in ("probabilities", "region_masks", "uncertainty") if getattr(options, name)]
    if options.resample == "labels" and wanted:
        raise InferenceError(
            f"resample='labels' beside {wanted[0]}=True",
            expected="one of them: with labels, nothing but the label map is brought to the scan's grid",
            fix=f"leave --resample or --{wanted[0].replace('_', '-')} out",
            path=path,
        )
    if not options.skip_empty:
        return
    # Windows that are skipped have no outputs. What stands for them there is background where the largest output or
    # the sign of one decides, but it is no probability, and may reach a threshold of a bundle's own.
    if options.probabilities:
        raise InferenceError(
            "skip_empty=True beside probabilities=True",
            expected="one of them: a window that is skipped has no probabilities",
            fix="leave --skip-empty or --probabilities out",
            path=path,
        )
    rule = card.outputs
    if rule is not None and (rule.threshold is not None or rule.restored == "probabilities"):
        raise InferenceError(
            "skip_empty=True with a model that decides on probabilities or by a threshold",
            expected="every window, for one that is skipped has no probabilities",
            fix="leave --skip-empty out",
            path=path,
        )


class LabelMaps:
    """The part of a `Predictor` that is the same for all models that give label maps.

    A class made of it has ``options``, ``card`` and ``paths``, the model files.
    """

    options: PredictOptions
    card: SegmentationCard
    paths: tuple[Path, ...]
    batch_size = 1

    @property
    def labels(self) -> dict[str, int]:
        """Names and values of the labels, in the order of the network's classes; of regions, those that are written."""
        return self.card.labels_by_class

    @property
    def colours(self) -> dict[str, str]:
        """A colour for every label; the model's own, or the default palette."""
        from resvox.viewer import label_colours

        return {**label_colours(self.labels), **(self.card.colours or {})}

    @staticmethod
    def find(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
        """Find the scans of inputs."""
        from resvox.prediction.inputs import find_scans

        return find_scans(options, card, log)

    def results(self, log: RunLog, locks: Claims, cases: Sequence[Case], *, since: float) -> Results:
        """Result files in the output folder."""
        self.begin(len(cases))
        from resvox.prediction.results import FileResults

        return FileResults(log, locks, cases, self.files_of, since=since, what="label map")

    def begin(self, cases: int) -> None:
        """Called before a batch, with the number of its cases."""

    def files_of(self, case: Case) -> tuple[str, ...]:
        """The names of a case's files; the label map is last, because its existence means that the case is done."""
        names = self._outputs(case).names
        beside = (*self._names_of_doubt(case), *names)
        return (self._beside(case, PROBABILITIES), *beside) if self.options.probabilities else beside

    def _names_of_doubt(self, case: Case) -> tuple[str, ...]:
        if not self.options.uncertainty:
            return ()
        kinds = (UNCERTAINTY, DISAGREEMENT) if len(self.paths) > 1 else (UNCERTAINTY,)
        return tuple(self._beside(case, kind) for kind in kinds)

    def _beside(self, case: Case, kind: str) -> str:
        return f"{case.id}{self.options.suffix}{kind}"

    def _outputs(self, case: Case) -> CaseFiles:
        is_picture = case.is_picture and self.card.spatial_dims == 2
        regions = self.card.regions.names if self.card.regions and self.options.region_masks else ()
        name = f"{case.id}{self.options.suffix}"
        is_stack = self._has_spacing_beside and is_tiff(case.files[0])
        return case_files(name, self.options, is_picture=is_picture, is_stack=is_stack, regions=regions)

    @property
    def _has_spacing_beside(self) -> bool:
        """Whether the model knows the spacing of a stack of TIFF from the JSON file beside it, as nnU-Net."""
        return bool(self.card.preprocessing.get("spacing_beside"))

    def read(self, case: Case) -> Volume:
        """Read the scan of a case."""
        from resvox.prediction.inputs import read_scan

        if self.options.dicom is not None:
            check_dicom_input(case)
        volume = read_scan(case)
        if not self._has_spacing_beside:
            return volume
        from resvox.volumes.tiff import with_spacing_beside

        return with_spacing_beside(volume, case.files[0])

    def write(self, case: Case, made: Segmentation) -> Written:
        """The label map, after all that stands beside it."""
        from resvox.volumes import write_volume

        if made.probabilities is not None:
            write_volume(made.probabilities, self.options.out / self._beside(case, PROBABILITIES))
        for volume, kind in ((made.uncertainty, UNCERTAINTY), (made.disagreement, DISAGREEMENT)):
            if volume is not None:
                write_volume(volume, self.options.out / self._beside(case, kind))
        if made.region_masks is not None:
            write_masks(made.region_masks, self._outputs(case).regions, self.options.out)
        options = self.options
        named = options.dicom or options.sidecar or options.format == "seg.nrrd"
        path = write_case(
            case,
            made.label_map,
            self._outputs(case),
            options,
            self._label_set if named else None,
            self._algorithm if options.dicom else None,
        )
        doubt = {} if made.doubt is None else doubt_fields(made.doubt, self._doubted)
        return Written(path=path, fields={**made.log, **doubt})

    @property
    def _doubted(self) -> tuple[str, ...]:
        """The names of the outputs but the background."""
        names = self.card.output_names
        return names if self.card.regions is not None or len(names) == 1 else names[1:]

    def with_outputs(self, out: Path, *, format: str, dicom: str | None) -> Self:
        """The same model and engine, writing other files into another folder."""
        other = copy.copy(self)
        other.options = replace(self.options, out=out, format=format, dicom=dicom)
        return other

    @cached_property
    def _label_set(self) -> LabelSet:
        """Codes and colours of the labels."""
        return label_set_of(self.card)

    @cached_property
    def _algorithm(self) -> Algorithm:
        """The model as DICOM objects name it."""
        return algorithm_of(self.paths[0])
