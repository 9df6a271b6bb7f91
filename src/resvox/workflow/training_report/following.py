"""The report of a training that goes on: written anew after validations."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import ResvoxError
from resvox.workflow.training_report.page import NAME, write_training_report

if TYPE_CHECKING:
    from resvox.training.task import StepReport

QUIET_SECONDS = 20.0  # between two reports while a run goes on: short validations come every second


def after_step(report: StepReport, *, folder: Path) -> None:
    """Write the report after a step that validated, on the first process, unless the last one is very new."""
    if report.rank or report.score is None:
        return
    path = folder / NAME
    if path.is_file() and time.time() - path.stat().st_mtime < QUIET_SECONDS:
        return
    report_of(folder)


def report_of(folder: Path) -> Path | None:
    """Write the report; what is wrong with it is a warning, for it must not end a training."""
    try:
        return write_training_report(folder)
    except (ResvoxError, OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{folder / NAME} could not be written: {error}", UserWarning, stacklevel=2)
        return None
