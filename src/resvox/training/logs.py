"""What a run leaves to read: metrics.csv, TensorBoard events, and a progress bar or plain lines."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from resvox.files import write_atomically

QUIET_SECONDS = 30.0  # between plain lines where no terminal listens


class MetricsFile:
    """metrics.csv, one row per step: step, loss, learning_rate, seconds, and the scores of the task.

    ``step`` counts finished steps from 1; ``seconds`` is training time so far, earlier parts of a resumed run
    included; the scores are empty between validations.
    """

    def __init__(self, path: Path, scores: tuple[str, ...], *, keep_to_step: int) -> None:
        self.columns = ["step", "loss", "learning_rate", "seconds", *scores]
        # What a killed run wrote after its last checkpoint will be written again.
        self.rows = [row for row in read_metrics(path) if row["step"] <= keep_to_step]
        write_atomically(path, self._text([self.columns, *map(self._cells, self.rows)]).encode())
        self._path = path
        self._file = path.open("a", encoding="utf-8", newline="")

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it is in the file when this returns."""
        self.rows.append(row)
        self._file.write(self._text([self._cells(row)]))
        self._file.flush()

    def amend(self, scores: dict[str, Any]) -> dict[str, Any]:
        """Add the scores of a validation that came late to the last row; returns the row."""
        self.rows[-1].update(scores)
        self._file.close()
        write_atomically(self._path, self._text([self.columns, *map(self._cells, self.rows)]).encode())
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self.rows[-1]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cells(self, row: dict[str, Any]) -> list[str]:
        values = (row.get(column) for column in self.columns)
        return ["" if value is None else repr(value) for value in values]

    @staticmethod
    def _text(rows: list[list[str]]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        return buffer.getvalue()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.csv as numbers; empty cells as None, a row cut off by a kill left out."""
    if not path.is_file():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            numbers: dict[str, Any] = {name: float(cell) if cell else None for name, cell in row.items() if name}
            rows.append({**numbers, "step": int(numbers["step"])})
    return rows


class EventsFile:
    """TensorBoard events of the same numbers."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        # purge_step hides what a killed run wrote beyond its checkpoint.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, row: dict[str, Any]) -> None:
        """Write every number of a row of metrics.csv but its step."""
        for name, value in row.items():
            if value is not None and name != "step":
                self._writer.add_scalar(name.replace("dice_", "dice/", 1), value, row["step"])

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class ProgressDisplay:
    """A bar with loss, score and time left on a terminal; elsewhere a plain line now and then.

    ``score`` is the column of metrics.csv that is shown, ``title`` its name on the screen.
    """

    def __init__(
        self,
        *,
        shown: bool,
        steps: int,
        score: str = "dice_mean",
        title: str = "Dice",
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(stderr=True)
        self.shown = shown
        self.steps = steps
        self.score, self.title = score, title
        self.value: float | None = None
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if shown and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"loss {{task.fields[loss]}}  {title} {{task.fields[value]}}  {{task.fields[left]}} left"),
                console=self.console,
            )
            self._task = self._bar.add_task("", total=steps, loss="-", value="-", left="-")

    def start(self, first_step: int) -> None:
        """The step that the run goes on from."""
        if self._bar is not None:
            self._bar.update(self._task, completed=first_step)

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, row: dict[str, Any], *, left_seconds: float) -> None:
        """Show a finished step."""
        validated = row.get(self.score) is not None
        if validated:
            self.value = row[self.score]
        value = "-" if self.value is None else f"{self.value:.3f}"
        left_seconds = max(0.0, left_seconds)  # a time limit is met a step late
        left = f"{int(left_seconds) // 3600}:{int(left_seconds) // 60 % 60:02d}:{int(left_seconds) % 60:02d}"
        if self._bar is not None:
            loss = f"{row['loss']:.3f}"
            self._bar.update(self._task, completed=row["step"], loss=loss, value=value, left=left)
        elif self.shown and (validated or time.monotonic() - self._last_line > QUIET_SECONDS):
            self._last_line = time.monotonic()
            self.say(f"step {row['step']}/{self.steps}  loss {row['loss']:.4f}  {self.title} {value}  {left} left")

    def preparing(self, done: int, total: int, case: str) -> None:
        """Tell how far the preparation of the cases is, now and then."""
        if done == total or time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"prepared {done}/{total} cases")

    def say(self, line: str) -> None:
        """Print one line, above the bar where there is one."""
        if self.shown:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
