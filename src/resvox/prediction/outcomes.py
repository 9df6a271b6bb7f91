"""What became of each input of a batch, and of the batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resvox.errors import ResvoxError

STATUS_WORDS = {
    "written": "written",
    "present": "already done",
    "elsewhere": "left to another process",
    "failed": "failed",
}


def counts_in_words(count: Callable[[str], int]) -> str:
    """How many cases have each status, such as "3 written, 1 failed"; a status without cases is left out."""
    counts = [(count(status), text) for status, text in STATUS_WORDS.items()]
    return ", ".join(f"{number} {text}" for number, text in counts if number) or "nothing to do"


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """What became of one input.

    ``status``: "written", "present" (its result existed already), "elsewhere" (left to another process, which did
    not finish it in time) or "failed". ``reason`` is one line and names the file. ``skipped`` of ``windows`` were
    empty.
    """

    id: str
    status: str
    path: Path | None = None
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    windows: int = 0
    skipped: int = 0
    answer: str = ""  # the result of a classifier in words
    fields: Mapping[str, Any] = field(default_factory=dict)  # of its line in predict.jsonl beside the usual ones
    error: Exception | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """Every input's outcome, in order, and the engine that made them."""

    cases: tuple[CaseOutcome, ...]
    out: Path
    engine: str = ""

    def with_status(self, status: str) -> tuple[CaseOutcome, ...]:
        """The outcomes with one status."""
        return tuple(case for case in self.cases if case.status == status)

    @property
    def ok(self) -> bool:
        """Whether every result is there: nothing failed, nothing was left to another process."""
        return not self.with_status("failed") and not self.with_status("elsewhere")

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds a stage, summed over the cases that were written; stages of several cases overlap."""
        total: Counter[str] = Counter()
        for case in self.with_status("written"):
            total.update(case.seconds)
        return dict(total)

    @property
    def skipped(self) -> tuple[int, int]:
        """Windows that were passed over as empty, and all windows, of the cases that were written."""
        written = self.with_status("written")
        return sum(case.skipped for case in written), sum(case.windows for case in written)

    @property
    def speed(self) -> str:
        """What came of a speed other than "full", in a line; "" of full."""
        asked = [case for case in self.with_status("written") if "speed" in case.fields]
        if not asked:
            return ""
        lines = [case.fields["speed"] for case in asked]
        computed = sum(line["computed"] for line in lines if line["used"] != "full")
        windows = sum(case.windows for case, line in zip(asked, lines, strict=True) if line["used"] != "full")
        full = sum(line["used"] == "full" for line in lines)
        back = sum(line.get("went_back", False) for line in lines)
        measured = lines[-1]["measured"]
        words = [
            f"speed {lines[-1]['asked']}: as measured, {100 * measured['labels_changed']:.3f} % of the labels differ "
            f"from full, least Dice {measured['least_dice']:.4f}",
            *([f"{computed} of {windows} windows computed"] if windows > computed else []),
            *([f"{full} {'scans' if full > 1 else 'scan'} in full"] if full else []),
            *([f"{back} of these because more changes than allowed were expected"] if back else []),
        ]
        return "; ".join(words)

    def __str__(self) -> str:
        return counts_in_words(lambda status: len(self.with_status(status)))


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
