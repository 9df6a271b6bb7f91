"""``predict.jsonl``: one line of JSON for each case that was predicted into a folder, for people and for later runs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox._version import __version__
from resvox.prediction.cases import Case, state_of
from resvox.prediction.outputs import BESIDE, REGION

if TYPE_CHECKING:
    from resvox.inference import Engine
    from resvox.prediction.outcomes import CaseOutcome

NAME = "predict.jsonl"
TIME = "%Y-%m-%dT%H:%M:%S%z"
LOGGED = ("written", "failed")  # the outcomes that get a line
Line = dict[str, Any]


class RunLog:
    """``predict.jsonl`` of a folder, shared by all processes that work there.

    Lines are added, one write each, and never changed. Those of version 0.1 (with ``time`` for scans, with ``clock``
    for images) are read and continued.

    Args:
        folder: where results are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self.by_file: dict[str, Line] = {}  # newest line of each result file
        self.by_case: dict[str, Line] = {}  # newest line of each case
        self.clock_offset = 0.0  # of the folder's clock, which on a network file system is not this machine's
        self._about: Mapping[str, Any] = {}
        self._engine: Engine | None = None
        self._read_to = 0
        self._lock = threading.Lock()
        self.refresh()

    def begin(self, models: Sequence[Path], settings: Mapping[str, Any], engine: Engine) -> None:
        """From now on lines are added of these models (the first one names them all), options and engine."""
        first, *others = [describe_model(path) for path in models]
        self._engine, self._about = engine, {"model": first, "options": {**settings, "also": others}}

    @property
    def about(self) -> Mapping[str, Any]:
        """Model and options of the lines that are added."""
        return self._about

    def refresh(self) -> None:
        """Read what was added since the last look, by this process or another."""
        with self._lock:
            if not self.path.is_file():
                return
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]  # a line that is being written is read next time
            self._read_to += len(whole)
            for text in whole.decode("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # a line that a kill cut off
                    self._take(json.loads(text))

    def _take(self, line: Any) -> None:
        if isinstance(line, dict) and line.get("status") == "written":
            self.by_file[str(line.get("file"))] = line
            self.by_case[str(line.get("case"))] = line

    def products(self) -> Callable[[str], bool]:
        """Whether a name is that of a file that runs wrote into this folder, or that is being written."""
        from resvox.volumes.formats import stem_of

        names = set(self.by_file)
        claims = self.folder / ".claims"
        if claims.is_dir():
            names |= {path.name.removesuffix(".lock") for path in claims.glob("*.lock")}
        stems = [stem_of(name) for name in names]
        names |= {f"{stem}{kind}" for stem in stems for kind in BESIDE}
        beginnings = tuple(f"{stem}{REGION}" for stem in stems)
        return lambda name: name in names or name.startswith(beginnings)

    def names_of_inputs(self) -> dict[str, str]:
        """By resolved path of a case's first file, the name that the case had."""
        names: dict[str, str] = {}
        for line in self.by_case.values():
            inputs = line.get("inputs")
            if isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
                names[os.path.realpath(inputs[0])] = str(line["case"])
        return names

    def describe(self, case: Case) -> Line:
        """Fields of a case with which a later run checks whether its result is still valid."""
        return {
            "inputs": list(case.inputs),
            **({"series": case.series} if case.series is not None else {}),
            "state": state_of(case.files),
            **self._about,
        }

    def add(self, outcomes: Sequence[tuple[Case, CaseOutcome, Mapping[str, Any], Line]]) -> None:
        """Append lines in one write, so that processes sharing a folder do not tear each other's lines.

        Args:
            outcomes: case, outcome, the task's own fields, what `describe` gave for the case.
        """
        lines = [self._line(*each) for each in outcomes]
        if lines:
            self._append(lines)

    def recover(self, name: str, case: Case, about: Line) -> None:
        """Add the line of a result whose process ended between the result and its line."""
        line = {"case": case.id, "status": "written", "file": name, "reason": "", **about}
        self._append([{**line, "seconds": {}, **self._stamp()}])

    def _line(self, case: Case, outcome: CaseOutcome, fields: Mapping[str, Any], about: Line) -> Line:
        engine = self._engine
        return {
            "case": outcome.id,
            "status": outcome.status,
            "file": outcome.path.name if outcome.path else None,
            **fields,
            "reason": outcome.reason,
            **(about or {"inputs": list(case.inputs), **self._about}),
            "seconds": {stage: round(spent, 4) for stage, spent in outcome.seconds.items()},
            "engine": engine.name if engine is not None else "",
            "device": str(engine.device) if engine is not None else "",
            "precision": engine.precision if engine is not None else "",
            "windows": outcome.windows,
            "skipped": outcome.skipped,
            **self._stamp(),
        }

    def _stamp(self) -> Line:
        return {
            "resvox": __version__,
            "time": time.strftime(TIME),
            "clock": time.time() + self.clock_offset,
        }

    def _append(self, lines: Sequence[Line]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with self._lock, self.path.open("a+b") as file:
            # What a kill cut off ends in no line break; ours must not be added to it.
            torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write((b"\n" if torn else b"") + text)
        for line in lines:
            self._take(line)


def moment_of(line: Mapping[str, Any]) -> float:
    """When a line was added, in seconds; 0 where it does not say."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return float(line["clock"])
    with contextlib.suppress(KeyError, TypeError, ValueError):
        from datetime import datetime

        return datetime.strptime(line["time"], TIME).timestamp()
    return 0.0


def describe_model(path: Path) -> dict[str, Any]:
    """Fields that identify a model file; of a member of a zip those of the zip.

    A zip is unpacked to another folder by each process, so that path and time of the member say nothing.
    """
    from resvox.weights.formats.unpacking import archive_of

    path = path.resolve()
    found = archive_of(path)
    if found is not None:
        archive, member = found
        seconds = archive.moment // 10**9
        return {"path": str(archive.path), "bytes": archive.size, "modified": seconds, "member": member}
    return {"path": str(path), "bytes": path.stat().st_size, "modified": int(path.stat().st_mtime)}
