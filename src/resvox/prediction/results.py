"""What "done" means: a file in the output folder, or the line of a table. And whether what is there is still right."""

from __future__ import annotations

import csv
import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resvox.errors import InferenceError, VolumeError
from resvox.prediction.cases import is_same
from resvox.prediction.log import Line, moment_of
from resvox.prediction.outcomes import CaseOutcome
from resvox.prediction.outputs import PROBABILITIES

if TYPE_CHECKING:
    from resvox.locks import Claims
    from resvox.prediction.cases import Case
    from resvox.prediction.log import RunLog

# Settings that a line has only where they are not at these values.
USUAL_SETTINGS = {"exact": False, "postprocess": False, "orientation": None, "calibrated": False}
OF_PROBABILITIES = ("calibrated",)  # settings that change probabilities alone
TABLE_SECONDS = 10.0  # between two writings of a table: what a kill can cost of it, and nothing of the log


class Results(Protocol):
    """Where results are kept. ``line_is_result``: a case whose line cannot be written is not done."""

    line_is_result: bool

    def outcome(self, case: Case) -> CaseOutcome | None:
        """The outcome "present" of a case that is done; None for a case that is to be done.

        Raises:
            VolumeError: what is there, or is to be written, belongs to something else.
        """

    def lock_name(self, cases: Sequence[Case]) -> str:
        """Under which name cases that are done together are locked."""

    def prepare(self, case: Case) -> None:
        """Remove what a killed process left of a case; the caller owns its lock."""

    def flush(self, *, last: bool = False) -> None:
        """Called after each step of a batch, and at its end."""


class FileResults:
    """Files of each case, written atomically; the existence of the last one means that the case is done.

    Args:
        cases: all of the batch: no file may be written twice, or over an input.
        files_of: the names of a case's files, the last written one last.
        since: a file older than this (seconds, the folder's clock) is to be written again.
        what: what the last file is, in words.
    """

    line_is_result = False

    def __init__(
        self,
        log: RunLog,
        locks: Claims,
        cases: Sequence[Case],
        files_of: Callable[[Case], tuple[str, ...]],
        *,
        since: float,
        what: str,
    ) -> None:
        self.log, self.locks, self.files_of, self.since, self.what = log, locks, files_of, since, what
        self.inputs = {Path(path).resolve() for case in cases for path in case.files}
        self.writers: dict[str, str] = {}  # by file name, the first case that writes it
        for case in cases:
            for name in files_of(case):
                self.writers.setdefault(name.casefold(), case.id)

    def outcome(self, case: Case) -> CaseOutcome | None:
        """The outcome of a case that is done, see `Results`."""
        names = self.files_of(case)
        self._check_targets(case, names)
        target = self.log.folder / names[-1]
        if not self._is_there(target):
            return None
        line = self.log.by_file.get(target.name) or self._recovered(case, target)
        if line is None:
            unknown = "kept, though predict.jsonl does not say what it was made from; --overwrite does it again"
            reason = "" if (self.locks.folder / f"{target.name}.lock").exists() else unknown
            return CaseOutcome(id=case.id, status="present", path=target, reason=reason)
        check_source(case, line, f"a {self.what} called {target.name} exists already")
        missing = [name for name in names if not (self.log.folder / name).exists()]
        are_kept = any(name.endswith(PROBABILITIES) and name not in missing for name in names)
        reason = differences(line, self.log.about, leave_out=() if are_kept else OF_PROBABILITIES)
        if missing and reason:
            raise VolumeError(
                f"no {missing[0]} beside {target.name}, which was {reason}",
                expected="both of one model and the same options",
                fix="--overwrite does both again",
                path=case.files[0],
            )
        if missing:
            return None
        if reason:
            reason = f"kept, though {reason}; --overwrite does it again"
        return CaseOutcome(id=case.id, status="present", path=target, reason=reason)

    def lock_name(self, cases: Sequence[Case]) -> str:
        """The name of the last file."""
        return self.files_of(cases[0])[-1]

    def prepare(self, case: Case) -> None:
        """Remove half-written files."""
        from resvox.files import remove_leftovers

        remove_leftovers(self.log.folder, of=[self.log.folder / name for name in self.files_of(case)])

    def flush(self, *, last: bool = False) -> None:
        """Nothing: each file was written with its case."""

    def _is_there(self, target: Path) -> bool:
        return target.exists() and target.stat().st_mtime >= self.since

    def _recovered(self, case: Case, target: Path) -> Line | None:
        """The line of a result whose process was killed before it wrote the line; its lock holds the fields."""
        note = self.locks.left_note(target.name)
        if note is None or not self.locks.take(target.name, note):
            return None
        try:
            self.log.recover(target.name, case, note)
        finally:
            self.locks.release(target.name)
        return self.log.by_file[target.name]

    def _check_targets(self, case: Case, names: Sequence[str]) -> None:
        for name in names:
            target = self.log.folder / name
            if target.resolve() in self.inputs:
                own = target.resolve() in [Path(path).resolve() for path in case.files]
                raise VolumeError(
                    f"the {self.what} would replace {'the scan itself' if own else 'another scan'}",
                    expected="another folder for the results",
                    fix="choose another -o, or a --suffix",
                    path=target,
                )
            if self.writers[name.casefold()] != case.id:
                raise VolumeError(
                    f"its file {name} is also that of case {self.writers[name.casefold()]!r}",
                    expected="a file name for each result",
                    fix="rename one of the scans, or predict them into two folders",
                    path=case.files[0],
                )


class TableResults:
    """Each case is a line of the log, and a table is made of the lines: replaced as a whole, never half written.

    Args:
        cases: all of the batch; the table begins with them, in this order.
        table: its name.
        columns: between the case and the file.
        row_of: the values of these columns, of a line of the log.
        since: a line older than this (seconds, the folder's clock) is to be done again.

    Raises:
        InferenceError: the folder holds predictions of another model.
    """

    line_is_result = True

    def __init__(
        self,
        log: RunLog,
        locks: Claims,
        cases: Sequence[Case],
        *,
        table: str,
        columns: Sequence[str],
        row_of: Callable[[Mapping[str, Any]], Sequence[str]],
        since: float,
    ) -> None:
        self.log, self.locks, self.since = log, locks, since
        self.order = [case.id for case in cases]
        self.first = {case.id: case for case in reversed(cases)}
        self.counts = Counter(self.order)
        self.table, self.columns, self.row_of = log.folder / table, list(columns), row_of
        self.written = time.monotonic()
        self._lines()

    def outcome(self, case: Case) -> CaseOutcome | None:
        """The outcome of a case that is done, see `Results`."""
        if self.counts[case.id] > 1 and self.first[case.id] is not case:
            raise InferenceError(
                f"two images called {case.id}",
                expected="images, each with a name of its own",
                fix="predict them into two folders",
                path=case.files[0],
            )
        line = self._lines().get(case.id)
        if line is None:
            return None
        check_source(case, line, f"a prediction for {case.id} exists already")
        return CaseOutcome(id=case.id, status="present", path=self.table)

    def lock_name(self, cases: Sequence[Case]) -> str:
        """A digest of the cases: every process that shares the folder means the same by it."""
        return f"images-{hashlib.sha256(chr(10).join(case.id for case in cases).encode()).hexdigest()[:16]}"

    def prepare(self, case: Case) -> None:
        """Nothing: a line is whole or it is not read."""

    def flush(self, *, last: bool = False) -> None:
        """Write the table where the last time is long ago; one process at a time, and the last one has read all."""
        if not last and time.monotonic() - self.written < TABLE_SECONDS:
            return
        deadline = time.monotonic() + TABLE_SECONDS
        taken = self.locks.take(self.table.name)
        while not taken and time.monotonic() < deadline:
            time.sleep(0.05)
            taken = self.locks.take(self.table.name)
        try:
            self._write()
        finally:
            if taken:
                self.locks.release(self.table.name)
        self.written = time.monotonic()

    def _lines(self) -> dict[str, Line]:
        """The lines that count, by case."""
        lines = {
            name: line
            for name, line in list(self.log.by_case.items())
            if line.get("file") == self.table.name and moment_of(line) >= self.since
        }
        for line in lines.values():
            if line.get("model") != self.log.about["model"]:
                raise InferenceError(
                    f"predictions made with another model ({(line.get('model') or {}).get('path')})",
                    expected="one model for a table",
                    fix="predict into another folder, or use --overwrite",
                    path=self.log.path,
                )
        return lines

    def _write(self) -> None:
        from resvox.files import write_atomically

        self.log.refresh()
        lines = self._lines()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", *self.columns, "file"])
        for name in dict.fromkeys([*self.order, *lines]):
            if name in lines:
                writer.writerow([name, *self.row_of(lines[name]), lines[name]["inputs"][0]])
        write_atomically(self.table, text.getvalue())


def check_source(case: Case, line: Mapping[str, Any], there: str) -> None:
    """Refuse a result that was made from something else than the case is now.

    Raises:
        VolumeError: naming both.
    """
    inputs = [str(each) for each in line.get("inputs") or case.inputs]
    state = line.get("state")
    # Of a table the paths may be relative to another folder, so what was noted of the files alone counts.
    is_path_right = inputs == list(case.inputs) or str(line.get("file")).endswith(".csv")
    is_unchanged = state is None or (is_same(case.files, state) and line.get("series") == case.series)
    if is_path_right and is_unchanged:
        return
    made_from = ", ".join(inputs)
    if inputs == list(case.inputs):
        made_from += (
            f" with --series {line.get('series')}" if line.get("series") != case.series else " before it changed"
        )
    raise VolumeError(
        f"{there}, made from {made_from}",
        expected="one scan for a name",
        fix="predict into another folder, or use --suffix or --overwrite",
        path=case.files[0],
    )


def differences(line: Mapping[str, Any], about: Mapping[str, Any], *, leave_out: Sequence[str] = ()) -> str:
    """How a result was made otherwise than it would be now; empty where it was not, or the line does not say.

    Args:
        line: of the result.
        about: model and options of now, see `RunLog.about`.
        leave_out: settings that are not compared.
    """
    model = line.get("model")
    if isinstance(model, dict) and model != about.get("model"):
        return f"made with another model ({model.get('path')})"
    options = line.get("options")
    if not isinstance(options, dict):
        return ""
    wanted = _completed(about.get("options", {}))
    options = _completed(options)
    shared = [name for name in wanted if name in options and name not in leave_out]
    changed = [name for name in shared if options[name] != wanted[name]]
    if "also" in changed:
        return "made with other models beside the first"
    words = [f"{name} {options[name]} instead of {wanted[name]}" for name in changed]
    return f"made with other options ({', '.join(words)})" if words else ""


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the usual value of each that is left out, so that one that was switched off is noticed too."""
    return {**settings, **{name: value for name, value in USUAL_SETTINGS.items() if name not in settings}}
