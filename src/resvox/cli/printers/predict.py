"""What `resvox predict` prints."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from resvox.cli.printers.bars import counting_bars
from resvox.cli.printers.console import err, line, out
from resvox.cli.printers.status import show_tally
from resvox.fleet.result import FleetResult

if TYPE_CHECKING:
    from resvox.fleet.items import Item
    from resvox.workflow import CaseOutcome, PredictResult

MOST_FAILURES = 100  # failed rows of a manifest that are printed; resvox status has all
MOST_ANSWERS = 50  # classes of images that are printed, one line each


class PredictDisplay:
    """A bar for cases and one for windows on a terminal; elsewhere one line per case."""

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self._total = 0
        self._failed = self._written = 0
        self._bars = counting_bars()

    def __enter__(self) -> PredictDisplay:
        if err.is_terminal:
            self._bars.start()
        self._cases = self._bars.add_task("cases", total=None)
        self._windows = self._bars.add_task("windows", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err.is_terminal:  # older Rich (13.7 to 14.0) prints an empty line even for a disabled bar
            self._bars.stop()

    def start(self, cases: int) -> None:
        """The number of cases is known."""
        self._total = cases
        self._bars.update(self._cases, total=cases)

    def windows(self, case: str, done: int, total: int) -> None:
        """Windows of one case."""
        self._bars.update(self._windows, description=escape(case), completed=done, total=total)

    def note(self, text: str) -> None:
        """Something was done otherwise than requested: another engine, smaller batches."""
        line(f"note: {text}", style="yellow", stderr=True)

    def case(self, outcome: CaseOutcome) -> None:
        """A case is finished."""
        self._bars.advance(self._cases)
        if outcome.status == "failed":
            if self.debug and outcome.error is not None:
                line("".join(traceback.format_exception(outcome.error)).rstrip(), stderr=True)
            line(f"error: {outcome.reason}", style="red", stderr=True)
        elif outcome.answer:
            if self._total <= MOST_ANSWERS:  # a table of thousands is for reading in its file
                line(outcome.answer)
        elif outcome.status == "written":
            line(f"{outcome.path}  {sum(outcome.seconds.values()):.1f} s")
        elif outcome.status == "elsewhere":
            again = "the same command does it, should that one end"
            line(f"error: {outcome.id}: left to {outcome.reason}; {again}", style="red", stderr=True)
        elif outcome.reason:
            line(f"{outcome.path}: {outcome.reason}", style="yellow", stderr=True)

    def row(self, item: Item) -> None:
        """A row of a manifest is over."""
        self._written += item.status == "written"
        self._failed += item.status == "failed"
        words = f"cases ({self._failed} failed)" if self._failed else "cases"
        self._bars.update(self._cases, description=words, advance=1)
        if item.status == "failed" and self._failed <= MOST_FAILURES:
            line(f"error: {item.reason}", style="red", stderr=True)
        elif item.status == "elsewhere":
            line(f"error: {item.row.id}: left to {item.reason}; the same command does it", style="red", stderr=True)
        elif item.status == "written" and not err.is_terminal and self._written <= MOST_ANSWERS:
            line(f"{item.row.id}  {sum(item.seconds.values()):.1f} s")


def show_predicted(result: PredictResult, *, profile: bool) -> None:
    """Counts and, on request, seconds per stage."""
    if isinstance(result, FleetResult):
        show_tally(result.tally, profile=profile)
        line(f"{result} -> {result.address}", style="bold")
        return
    if profile and result.seconds:
        table = Table("stage", "seconds", "share", box=None, padding=(0, 2))
        total = sum(result.seconds.values())
        for stage, spent in result.seconds.items():
            table.add_row(stage, f"{spent:.2f}", f"{100 * spent / total:.0f} %")
        out.print(table)
        if result.engine:
            line(f"engine: {result.engine}")
    skipped, windows = result.skipped
    if skipped:
        line(f"{skipped} of {windows} windows were empty and passed over")
    if result.speed:
        line(result.speed)
    line(f"{result} -> {result.out}", style="bold")
