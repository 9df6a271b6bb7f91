"""Scans to label maps: a batch that does what it can, says what it could not, and can be run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from resvox.errors import VolumeError
from resvox.files import remove_leftovers
from resvox.prediction.log import RunLog
from resvox.prediction.model_files import Paths
from resvox.prediction.outcomes import CaseOutcome, PredictResult, one_line
from resvox.prediction.pipeline import Stages, run_stages, timed_call

if TYPE_CHECKING:
    from resvox.locks import Claims
    from resvox.prediction.segmenter import Segmentation, Segmenter
    from resvox.preprocessing import Prepared
    from resvox.volumes import InputCase

Inputs = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """What `predict` was asked for, in a form that another process can be given; ``choices`` are the Segmenter's."""

    model: Paths
    inputs: Inputs
    out: Path
    choices: Mapping[str, Any]
    series: str | None = None
    probabilities: bool = False
    overwrite: bool = False
    suffix: str = ""
    done_since: float | None = None  # of an overwriting run that several processes share


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Who hears of what happens."""

    on_start: Callable[[int], object] | None = None
    on_windows: Callable[[str, int, int], object] | None = None
    on_case: Callable[[CaseOutcome], object] | None = None
    on_note: Callable[[str], object] | None = None


def segment_cases(options: SegmentOptions, heard: Heard) -> PredictResult:
    """The segmentation of every input, in this process."""
    from resvox.locks import Claims
    from resvox.prediction.segmenter import Segmenter

    out = options.out
    segmenter = Segmenter(options.model, notify=heard.on_note, **options.choices)
    cases = _cases_outside(out, options.inputs, segmenter.channels, options.series)
    if heard.on_start is not None:
        heard.on_start(len(cases))
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[CaseOutcome] = []
    with Claims(out) as claims:
        # What a process beside this one has just done again is not done a third time.
        since = options.done_since if options.done_since is not None else claims.clock() if options.overwrite else 0.0
        log = RunLog(out, segmenter, done_since=since)
        jobs = [
            _Job(segmenter, case, out / output_name(case, options.suffix), options.probabilities, heard.on_windows)
            for case in cases
        ]
        stages = Stages(
            admit=lambda job: _admit(job, claims, log),
            read=_Job.read,
            compute=_Job.compute,
            write=_Job.write,
            fail=_failed,
            close=lambda job: claims.release(job.target.name),
        )
        for case, outcome in zip(cases, run_stages(jobs, stages), strict=True):
            log.add(case, outcome)
            outcomes.append(outcome)
            if heard.on_case is not None:
                heard.on_case(outcome)
    return PredictResult(cases=tuple(outcomes), out=out, engine=segmenter.engine_words)


def output_name(case: InputCase, suffix: str) -> str:
    """The file name of a case's label map: NIfTI, or PNG where the input is a 2-D picture."""
    from resvox.volumes.reading import is_flat_picture

    return f"{case.id}{suffix}{'.png' if is_flat_picture(case.paths[0]) else '.nii.gz'}"


def _cases_outside(out: Path, inputs: Inputs, channels: int, series: str | None) -> list[InputCase]:
    """The cases of the inputs, without the label maps of an earlier run that lie in a folder inside of them."""
    from resvox.volumes import find_cases

    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    cases = find_cases(named, channels=channels, series=series)
    place = out.resolve()
    if any(place == Path(each).resolve() or place in Path(each).resolve().parents for each in named):
        return cases  # named themselves: predictions can be inputs on purpose
    kept = [case for case in cases if place not in Path(case.paths[0]).resolve().parents]
    if len(kept) == len(cases):
        return cases
    # Found anew, for a label map of the same name as a scan has made both names longer.
    return find_cases(named, channels=channels, series=series, leave_out=place)


@dataclass(frozen=True)
class _Job:
    segmenter: Segmenter
    case: InputCase
    target: Path
    probabilities: bool
    on_windows: Callable[[str, int, int], object] | None

    def read(self) -> tuple[Prepared, dict[str, float]]:
        """The scan as the network sees it, and the seconds of reading and preparing."""
        from resvox.volumes import read_case

        seconds: dict[str, float] = {}
        volume = timed_call(seconds, "read", lambda: read_case(self.case))
        prepared = timed_call(seconds, "preprocess", lambda: self.segmenter.prepare(volume))
        return prepared, seconds

    def compute(self, read: tuple[Prepared, dict[str, float]]) -> tuple[Segmentation, dict[str, float]]:
        """The label map, and the seconds so far."""
        prepared, seconds = read
        watch = self.on_windows
        progress = (lambda done, total: watch(self.case.id, done, total)) if watch else None
        made = self.segmenter.segment_prepared(prepared, probabilities=self.probabilities, progress=progress)
        return made, {**seconds, **made.seconds}

    def write(self, made: tuple[Segmentation, dict[str, float]]) -> CaseOutcome:
        """Files; the label map last, for its presence says that all is done."""
        from resvox.volumes import write_label_map, write_volume
        from resvox.volumes.formats import stem_of

        done, seconds = made
        start = time.perf_counter()
        if done.probabilities is not None:
            name = stem_of(self.target)
            write_volume(done.probabilities, self.target.with_name(f"{name}_probabilities.nii.gz"))
        write_label_map(done.label_map, self.target)
        seconds["write"] = time.perf_counter() - start
        return CaseOutcome(
            id=self.case.id,
            status="written",
            path=self.target,
            seconds=seconds,
            windows=done.windows,
            skipped=done.skipped,
        )


def _admit(job: _Job, claims: Claims, log: RunLog) -> CaseOutcome | None:
    """What there is to say of a case that is not to be done now; None where it is, and then it is claimed."""
    name, target = job.case.id, job.target
    _refuse_own_input(job)
    if log.is_done(target):
        return CaseOutcome(id=name, status="present", path=target, reason=log.remark(job.case, target))
    if not claims.take(target.name):
        return CaseOutcome(id=name, status="elsewhere", path=target, reason=claims.holder(target.name))
    if log.is_done(target):  # finished by another process between the look and the claim
        claims.release(target.name)
        return CaseOutcome(id=name, status="present", path=target)
    # What a killed process left half-written; this process holds the claim on the case.
    probabilities = target.with_name(f"{target.name.removesuffix('.nii.gz')}_probabilities.nii.gz")
    remove_leftovers(target.parent, of=(target, probabilities))
    return None


def _failed(job: _Job, error: Exception) -> CaseOutcome:
    return CaseOutcome(id=job.case.id, status="failed", reason=one_line(error, job.case.paths[0]), error=error)


def _refuse_own_input(job: _Job) -> None:
    if job.target.resolve() in [Path(path).resolve() for path in job.case.paths]:
        raise VolumeError(
            "the label map would replace the scan itself",
            expected="another folder for the results",
            fix="choose another -o, or a --suffix",
            path=job.target,
        )
