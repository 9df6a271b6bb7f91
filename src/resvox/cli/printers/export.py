"""What `resvox export` shows while a network is quantized."""

from __future__ import annotations

from types import TracebackType

from resvox.cli.printers.bars import counting_bars
from resvox.cli.printers.console import err, line


class ExportDisplay:
    """A bar for scans and windows on a terminal; elsewhere one line at the beginning of each part."""

    def __init__(self) -> None:
        self._part = ""
        self._bar = counting_bars()
        self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> ExportDisplay:
        if err.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err.is_terminal:
            self._bar.stop()

    def progress(self, what: str, done: int, total: int) -> None:
        """A part of the work, such as "calibrating", and how much of it is done."""
        if what != self._part:
            self._part = what
            if not err.is_terminal:
                line(f"{what} ({total})", stderr=True)
        self._bar.update(self._task, description=what, completed=done, total=total, visible=True)

    def note(self, text: str) -> None:
        """A scan that cannot be used."""
        line(f"note: {text}", style="yellow", stderr=True)
