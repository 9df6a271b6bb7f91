"""Scans to volumes of values, each on the grid of its scan; run again, it does what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import VolumeError
from resvox.prediction.log import RunLog
from resvox.prediction.outcomes import CaseOutcome, PredictResult, one_line

if TYPE_CHECKING:
    from resvox.locks import Claims
    from resvox.prediction.regressor import Regressor
    from resvox.volumes import InputCase


def predict_values(
    model: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    mirror: bool = False,
    overlap: float | None = None,
    suffix: str = "",
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    on_start: Callable[[int], object] | None = None,
    on_windows: Callable[[str, int, int], object] | None = None,
    on_case: Callable[[CaseOutcome], object] | None = None,
) -> PredictResult:
    """Write ``out/<case>.nii.gz`` for every scan, float32 on the scan's grid; 2D pictures give ``<case>.tif``.

    A volume is written at once or not at all, so one that is there is done. Several processes may share a folder.

    Args:
        inputs: image files, folders of them, folders of DICOM series.
        mirror, overlap, device, precision: see `Regressor`. suffix: put behind the case's name.
        overwrite: do again what is there.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: an option that cannot be.
    """
    from resvox.locks import Claims
    from resvox.prediction.regressor import Regressor
    from resvox.volumes import find_cases
    from resvox.volumes.reading import is_flat_picture

    out = Path(out)
    regressor = Regressor(model, device=device, precision=precision, mirror=mirror, overlap=overlap)
    cases = find_cases(inputs, channels=regressor.channels)
    if on_start is not None:
        on_start(len(cases))
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[CaseOutcome] = []
    with Claims(out) as claims:
        log = RunLog(out, regressor, done_since=claims.clock() if overwrite else 0.0)
        for case in cases:
            target = out / f"{case.id}{suffix}{'.tif' if is_flat_picture(case.paths[0]) else '.nii.gz'}"
            outcome = _attempt(case, target, regressor, claims, log, on_windows)
            log.add(case, outcome)
            outcomes.append(outcome)
            if on_case is not None:
                on_case(outcome)
    return PredictResult(cases=tuple(outcomes), out=out)


def _attempt(
    case: InputCase,
    target: Path,
    regressor: Regressor,
    claims: Claims,
    log: RunLog,
    on_windows: Callable[[str, int, int], object] | None,
) -> CaseOutcome:
    try:
        if target.resolve() in [Path(path).resolve() for path in case.paths]:
            raise VolumeError(
                "the values would replace the scan itself",
                expected="another folder for the results",
                fix="choose another -o, or a --suffix",
                path=target,
            )
        if log.is_done(target):
            return CaseOutcome(id=case.id, status="present", path=target, reason=log.remark(case, target))
        if not claims.take(target.name):
            return CaseOutcome(id=case.id, status="elsewhere", reason=claims.holder(target.name))
        try:
            if log.is_done(target):  # finished by another process between the look and the claim
                return CaseOutcome(id=case.id, status="present", path=target)
            seconds = _predict(case, target, regressor, on_windows)
            return CaseOutcome(id=case.id, status="written", path=target, seconds=seconds)
        finally:
            claims.release(target.name)
    except Exception as error:  # the batch goes on; the error is kept in the outcome and shown
        return CaseOutcome(id=case.id, status="failed", reason=one_line(error, case.paths[0]), error=error)


def _predict(
    case: InputCase, target: Path, regressor: Regressor, on_windows: Callable[[str, int, int], object] | None
) -> dict[str, float]:
    from resvox.volumes import read_case, write_volume

    start = time.perf_counter()
    volume = read_case(case)
    seconds = {"read": time.perf_counter() - start}

    def progress(done: int, total: int) -> None:
        if on_windows is not None:
            on_windows(case.id, done, total)

    made = regressor.predict(volume, progress=progress)
    start = time.perf_counter()
    write_volume(made.volume, target)
    return {**seconds, **made.seconds, "write": time.perf_counter() - start}
