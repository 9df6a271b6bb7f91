"""Scans to label maps: a batch that does what it can, says what it could not, and can be run again."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Union

from resvox.errors import ResvoxError, VolumeError
from resvox.workflow.run_log import RunLog

if TYPE_CHECKING:
    from resvox.volumes import InputCase
    from resvox.workflow.claims import Claims
    from resvox.workflow.segmenter import Segmenter

Inputs = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """What became of one input.

    ``status``: "written", "present" (its label map was there already), "elsewhere" (another process is doing it)
    or "failed". ``reason`` is one line and names the file.
    """

    id: str
    status: str
    path: Path | None = None
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    error: Exception | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """Every input's outcome, in order."""

    cases: tuple[CaseOutcome, ...]
    out: Path

    def with_status(self, status: str) -> tuple[CaseOutcome, ...]:
        """The outcomes with one status."""
        return tuple(case for case in self.cases if case.status == status)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.with_status("failed")

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds a stage, summed over the cases that were written."""
        total: Counter[str] = Counter()
        for case in self.with_status("written"):
            total.update(case.seconds)
        return dict(total)

    def __str__(self) -> str:
        words = {
            "written": "written",
            "present": "already there",
            "elsewhere": "being done by another process",
            "failed": "failed",
        }
        counts = [(len(self.with_status(status)), text) for status, text in words.items()]
        return ", ".join(f"{count} {text}" for count, text in counts if count) or "nothing to do"


def predict(
    model: str | os.PathLike[str],
    inputs: Inputs,
    out: str | os.PathLike[str],
    *,
    mirror: bool = False,
    overlap: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    probabilities: bool = False,
    overwrite: bool = False,
    suffix: str = "",
    on_start: Callable[[int], object] | None = None,
    on_windows: Callable[[str, int, int], object] | None = None,
    on_case: Callable[[CaseOutcome], object] | None = None,
) -> PredictResult:
    """Write ``out/<case>.nii.gz`` for every input, on the grid of the input; 2D pictures give ``<case>.png``.

    A label map is written at once or not at all, so one that is there is done: a second run does what is
    missing. Several processes may work on one folder; claim files keep them from doing a case twice. An input
    that cannot be used is an outcome with a reason, not an exception; the others are done.

    Args:
        model: a ``model.safetensors``, or the folder of a training run.
        inputs: image files, folders of them, folders of DICOM series.
        mirror, overlap, device, precision: see `Segmenter`.
        probabilities: also write ``<case>_probabilities.nii.gz``, (classes, *spatial) float32.
        overwrite: do again what is there.
        suffix: put behind the case's name.
        on_start, on_windows, on_case: called with the number of cases; with (case, windows done, windows); with
            each outcome.

    Returns:
        The outcomes. One line of JSON a case (stage times, model, versions) is added to ``out/predict.jsonl``.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: a device or option that cannot be.
    """
    from resvox.workflow.claims import Claims
    from resvox.workflow.segmenter import Segmenter

    out = Path(out)
    segmenter = Segmenter(model, device=device, precision=precision, mirror=mirror, overlap=overlap)
    cases = _cases_outside(out, inputs, segmenter.channels)
    if on_start is not None:
        on_start(len(cases))
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[CaseOutcome] = []
    with Claims(out) as claims:
        # What a process beside this one has just done again is not done a third time.
        log = RunLog(out, segmenter, done_since=claims.clock() if overwrite else 0.0)
        for case in cases:
            job = _Job(segmenter, case, out / output_name(case, suffix), probabilities, on_windows)
            outcome = _attempt(job, claims, log)
            log.add(case, outcome)
            outcomes.append(outcome)
            if on_case is not None:
                on_case(outcome)
    return PredictResult(cases=tuple(outcomes), out=out)


def output_name(case: InputCase, suffix: str) -> str:
    """The file name of a case's label map: NIfTI, or PNG where the input is a picture."""
    picture = Path(case.paths[0]).name.lower().endswith(PICTURE_ENDINGS)
    return f"{case.id}{suffix}{'.png' if picture else '.nii.gz'}"


def _cases_outside(out: Path, inputs: Inputs, channels: int) -> list[InputCase]:
    """The cases of the inputs, without the label maps of an earlier run that lie in a folder inside of them."""
    from resvox.volumes import find_cases

    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    cases = find_cases(named, channels=channels)
    place = out.resolve()
    if any(place == Path(each).resolve() or place in Path(each).resolve().parents for each in named):
        return cases  # named themselves: predictions can be inputs on purpose
    kept = [case for case in cases if place not in Path(case.paths[0]).resolve().parents]
    if len(kept) == len(cases):
        return cases
    # Found anew, for a label map of the same name as a scan has made both names longer.
    return find_cases([path for case in kept for path in case.paths], channels=channels)


@dataclass(frozen=True)
class _Job:
    segmenter: Segmenter
    case: InputCase
    target: Path
    probabilities: bool
    on_windows: Callable[[str, int, int], object] | None

    def run(self) -> dict[str, float]:
        """Read, segment, write; the seconds of each."""
        from resvox.volumes import read_case, write_label_map, write_volume

        start = time.perf_counter()
        volume = read_case(self.case)
        seconds = {"read": time.perf_counter() - start}
        watch = self.on_windows
        progress = (lambda done, total: watch(self.case.id, done, total)) if watch else None
        made = self.segmenter.segment(volume, probabilities=self.probabilities, progress=progress)
        start = time.perf_counter()
        if made.probabilities is not None:  # before the label map: its presence says that all is done
            name = self.target.name.removesuffix(".nii.gz").removesuffix(".png")
            write_volume(made.probabilities, self.target.with_name(f"{name}_probabilities.nii.gz"))
        write_label_map(made.label_map, self.target)
        return {**seconds, **made.seconds, "write": time.perf_counter() - start}


def _attempt(job: _Job, claims: Claims, log: RunLog) -> CaseOutcome:
    name, target = job.case.id, job.target
    try:
        _refuse_own_input(job)
        if log.is_done(target):
            return CaseOutcome(id=name, status="present", path=target, reason=log.remark(job.case, target))
        if not claims.take(target.name):
            return CaseOutcome(id=name, status="elsewhere", reason=claims.holder(target.name))
        try:
            if log.is_done(target):  # finished by another process between the look and the claim
                return CaseOutcome(id=name, status="present", path=target)
            _sweep(target)
            return CaseOutcome(id=name, status="written", path=target, seconds=job.run())
        finally:
            claims.release(target.name)
    except Exception as error:  # the batch goes on; the error is kept in the outcome and shown
        return CaseOutcome(id=name, status="failed", reason=one_line(error, job.case.paths[0]), error=error)


def _refuse_own_input(job: _Job) -> None:
    if job.target.resolve() in [Path(path).resolve() for path in job.case.paths]:
        raise VolumeError(
            "the label map would replace the scan itself",
            expected="another folder for the results",
            fix="choose another -o, or a --suffix",
            path=job.target,
        )


def _sweep(target: Path) -> None:
    """Remove what a killed process left half-written under a hidden name; the caller holds the claim."""
    stem = re.escape(target.name.removesuffix(".nii.gz").removesuffix(".png"))
    # As `write_volume` names it; strict, because a case whose name begins alike may be being written right now.
    left = re.compile(rf"\.{stem}(_probabilities)?\.[0-9a-f]{{8}}\.partial\.\w+(\.gz)?")
    for path in target.parent.iterdir():
        if left.fullmatch(path.name):
            path.unlink(missing_ok=True)


def one_line(error: Exception, path: str | os.PathLike[str]) -> str:
    """An error in one line that names the file."""
    if isinstance(error, ResvoxError):
        text = error.text if error.path is not None else f"{os.fspath(path)}: {error.text}"
    elif isinstance(error, OSError):
        text = f"{error.filename or os.fspath(path)}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = f"{os.fspath(path)}: not enough memory for this scan ({error})"
    else:
        text = f"{os.fspath(path)}: unexpected {type(error).__name__}: {error}"
    return " ".join(text.split())
