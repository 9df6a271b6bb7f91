"""All options of `resvox predict`, and the callbacks that report its progress."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Union

from resvox.errors import InferenceError
from resvox.inference.engines.table import AUTO, PRECISIONS, engine_names
from resvox.prediction.totalsegmentator.choices import USUAL, TotalChoices

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resvox.prediction.outcomes import CaseOutcome

Paths = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]
RESAMPLING = ("logits", "labels")
SPEEDS = ("full", "balanced", "fast")
SPLITS = ("train", "validation", "test", "all")
CHECKPOINT = "checkpoint_final.pth"
FORMATS = ("nii.gz", "nii", "seg.nrrd", "nrrd", "mha", "none")  # "none": the DICOM object alone
DICOM_KINDS = ("seg", "labelmap", "rtstruct")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What to predict, with what, and how. Checked when made; sent to other processes as it is.

    Args:
        model: a ``model.safetensors``, the folder of a training run, an exported network, a folder of folds, or
            several of these, whose outputs are averaged; or the name of a task of TotalSegmentator, such as "total".
        inputs: image files, folders of them, folders of DICOM series; for a classifier also ``.npz`` files and CSV
            manifests. A predictor that is called from Python needs none.
        out: the folder for the results.
        mirror: average over mirrored copies (the axes that training mirrored); 2 to 8 times the work. None takes the
            model's own default: models of nnU-Net mirror, others do not.
        overlap: fraction of a window that its neighbour shares; None takes the model's own.
        engine: "auto" takes the fastest one whose outputs agree with those of float32, see
            `resvox.inference.make_engine`; or the name of an engine.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "auto", "float32", "bfloat16", "float16", or "int8" with the quantized network that resvox export
            wrote beside the model.
        resample: "logits" brings the network's outputs to the scan's grid before the largest is taken, which is
            accurate; "labels" brings its label map there, which is a little faster.
        speed: "full" computes all windows; "balanced" those that could change a label, and "fast" about a third, as
            far as the labels of the first scan allow it, see `resvox.prediction.speed`.
        skip_empty: do not compute windows that hold air alone.
        memory_gb: what unfinished slices may take; beyond it a scan is done in tiles.
        series: of a DICOM folder that holds several: its UID or its number.
        processes: that share the cases; with several GPUs each takes the next one.
        probabilities: also write probabilities.
        uncertainty: also write a map of how unsure the model is of each voxel, of several models one of how far they
            disagree, and the list ``review.csv`` of the cases, the most doubtful one first.
        calibrated: probabilities are those of logits divided by the model's temperature, which its validation fitted.
        region_masks: of a model for regions also write one mask per region: a voxel may belong to several.
        format: of the label maps of scans: "nii.gz", "nii", "seg.nrrd" (3D Slicer, with names and colours), "nrrd",
            "mha", or "none" where ``dicom`` is all that is wanted.
        dicom: also write a DICOM object that refers to the scan's series: "seg", "labelmap" or "rtstruct".
        sidecar: also write ``<case>.json`` with the names, colours, codes and volumes of the labels.
        report: also write ``report.html`` with an interactive page for each case.
        overwrite: do again what was done before.
        suffix: put behind a case's name.
        folds: of an nnU-Net folder: such as ("0", "1") or ("all",); None takes every numbered fold.
        checkpoint: of an nnU-Net folder: the name of the file in the folder of a fold.
        exact: with a model of nnU-Net: its own arithmetic, to the bit. Slower, and all logits are in memory.
        orientation: with a model of nnU-Net: the directions of the axes of the images that it was trained with, such as
            "SPL"; scans are turned to it and results are turned back. None keeps the axes of the file, as nnU-Net.
        postprocess: apply the post-processing that cross-validation has chosen: that in a model file of resvox, or the
            ``postprocessing.json`` of nnU-Net. None takes the model's own default: models of nnU-Net do not.
        total: of a task of TotalSegmentator: weights, resolution, labels.
        split: of manifests and ``.npz`` files the cases of "train", "validation" or "test", or "all"; None takes the
            test cases where there are some, else all.

    Raises:
        InferenceError: a value that cannot be.
    """

    model: Paths
    inputs: Paths = ()
    out: Path = Path()
    mirror: bool | None = None
    overlap: float | None = None
    engine: str = AUTO
    device: str = AUTO
    precision: str = AUTO
    resample: str = "logits"
    speed: str = "full"
    skip_empty: bool = False
    memory_gb: float = 2.5
    series: str | None = None
    processes: int = 1
    probabilities: bool = False
    uncertainty: bool = False
    calibrated: bool = False
    region_masks: bool = False
    format: str = "nii.gz"
    dicom: str | None = None
    sidecar: bool = False
    report: bool = False
    overwrite: bool = False
    suffix: str = ""
    split: str | None = None
    folds: tuple[str, ...] | None = None
    checkpoint: str = CHECKPOINT
    exact: bool = False
    orientation: str | None = None
    postprocess: bool | None = None
    total: TotalChoices = USUAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        self._check_choice("engine", engine_names())
        self._check_choice("precision", PRECISIONS)
        self._check_choice("resample", RESAMPLING)
        self._check_choice("speed", SPEEDS)
        self._check_outputs()
        if self.split is not None:
            self._check_choice("split", SPLITS)
        if not self.memory_gb > 0:
            raise InferenceError(f"memory_gb={self.memory_gb}", expected="a number above 0, e.g. 2.5")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise InferenceError(f"overlap={self.overlap}", expected="a fraction of a window, at least 0 and below 1")
        if isinstance(self.processes, bool) or not isinstance(self.processes, int) or self.processes < 1:
            raise InferenceError(f"processes={self.processes!r}", expected="a whole number, at least 1")
        if Path(f"a{self.suffix}").name != f"a{self.suffix}":
            raise InferenceError(f"suffix={self.suffix!r}", expected="a part of a file's name, without slashes")
        if Path(self.checkpoint).name != self.checkpoint:
            raise InferenceError(f"checkpoint={self.checkpoint!r}", expected="the name of a file, without slashes")

    def _check_outputs(self) -> None:
        self._check_choice("format", FORMATS)
        if self.dicom is not None:
            self._check_choice("dicom", DICOM_KINDS)
        if self.format == "none" and self.dicom is None:
            raise InferenceError("format='none'", expected="another format, or dicom='seg', 'labelmap' or 'rtstruct'")
        if self.format == "none" and self.report:
            raise InferenceError(
                "a report without label maps", expected="a format of label maps", fix="leave --format out"
            )

    def _check_choice(self, name: str, choices: Sequence[str]) -> None:
        if getattr(self, name) not in choices:
            raise InferenceError(f"{name}={getattr(self, name)!r}", expected=" or ".join(map(repr, choices)))

    @classmethod
    def defaults(cls) -> PredictOptions:
        """Every option at its default; model, inputs and out are placeholders."""
        return cls(model="model.safetensors")

    def changed(self) -> dict[str, object]:
        """The options that are not at their defaults, without model, inputs and out."""
        names = [each.name for each in fields(self) if each.name not in ("model", "inputs", "out")]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(DEFAULTS, name)}

    @property
    def models(self) -> tuple[str | os.PathLike[str], ...]:
        """The models, one by one."""
        return as_paths(self.model)

    @property
    def input_paths(self) -> tuple[str | os.PathLike[str], ...]:
        """The inputs, one by one."""
        return as_paths(self.inputs)


class Choices(TypedDict, total=False):
    """The options that a predictor takes as keyword arguments; defaults are those of `PredictOptions`."""

    mirror: bool | None
    overlap: float | None
    engine: str
    device: str
    precision: str
    resample: str
    speed: str
    skip_empty: bool
    memory_gb: float
    probabilities: bool
    uncertainty: bool
    calibrated: bool
    region_masks: bool
    folds: tuple[str, ...] | None
    checkpoint: str
    exact: bool
    orientation: str | None
    postprocess: bool | None


DEFAULTS = PredictOptions.defaults()


def options_of(model: Paths | PredictOptions, **choices: Unpack[Choices]) -> PredictOptions:
    """A predictor's options: given whole, or as a model and keyword arguments."""
    if not isinstance(model, PredictOptions):
        return PredictOptions(model=model, **choices)
    if choices:
        raise InferenceError(
            f"{', '.join(choices)} beside options", expected="one or the other", fix="dataclasses.replace(options, ...)"
        )
    return model


def as_paths(paths: Paths) -> tuple[str | os.PathLike[str], ...]:
    """One path or several as a tuple."""
    return (paths,) if isinstance(paths, (str, os.PathLike)) else tuple(paths)


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What is called while a batch is predicted.

    Args:
        on_start: with the number of cases.
        on_windows: with a case's name, windows done and windows in all.
        on_case: with each outcome.
        on_note: with a line of text where something goes another way than asked for: an engine is given up, memory
            runs out, a case of another process is waited for. A ``RuntimeWarning`` where it is None.
    """

    on_start: Callable[[int], object] | None = None
    on_windows: Callable[[str, int, int], object] | None = None
    on_case: Callable[[CaseOutcome], object] | None = None
    on_note: Callable[[str], object] | None = None

    def start(self, cases: int) -> None:
        """The number of cases is known."""
        if self.on_start is not None:
            self.on_start(cases)

    def windows_of(self, case: str) -> Callable[[int, int], object] | None:
        """What counts the windows of a case."""
        watch = self.on_windows
        return None if watch is None else lambda done, total: watch(case, done, total)

    def case(self, outcome: CaseOutcome) -> None:
        """A case has its outcome."""
        if self.on_case is not None:
            self.on_case(outcome)

    def note(self, text: str) -> None:
        """Something goes another way than asked for."""
        if self.on_note is not None:
            self.on_note(text)
        else:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
