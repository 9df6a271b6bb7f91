"""What classes were predicted in a folder: one line of JSON an image, and the table that is made of them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox._version import __version__
from resvox.errors import InferenceError
from resvox.files import write_atomically

if TYPE_CHECKING:
    from resvox.prediction.classifier import Classifier

NAME = "predict.jsonl"
TABLE = "predictions.csv"


class ClassLog:
    """``predict.jsonl`` of a folder, shared by all processes that work there; ``predictions.csv`` is written from it.

    Lines are added, one write each, and never changed, so a kill costs the image at work and no other. The table
    is replaced as a whole, so that nobody ever reads half of one.

    Args:
        folder: where both are.
        classifier: what predicts now.
        done_since: a line older than this (seconds, the folder's clock) is to be done again.

    Raises:
        InferenceError: the folder holds predictions of another model.
    """

    def __init__(self, folder: Path, classifier: Classifier, *, done_since: float = 0.0) -> None:
        self.path, self.table = folder / NAME, folder / TABLE
        self.classifier = classifier
        self.done_since = done_since
        self.lines: dict[str, dict[str, Any]] = {}
        self._read_to = 0
        self.refresh()

    def refresh(self) -> None:
        """Read what was added since the last look, by this process or another."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]  # a line that is being written is read next time
        self._read_to += len(whole)
        for text in whole.decode("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # a line that a kill cut off
                line = json.loads(text)
                if isinstance(line, dict) and line.get("status") == "written":
                    self._take(line)

    def is_done(self, case: str) -> bool:
        """Whether a case has its line."""
        return case in self.lines

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append lines in one write, so that processes sharing a folder do not tear each other's."""
        model = self._model()
        about = {
            "model": model,
            "device": str(self.classifier.engine.device),
            "precision": self.classifier.engine.precision,
            "resvox": __version__,
            "clock": time.time(),
        }
        text = "".join(json.dumps({**line, **about}) + "\n" for line in lines)
        with self.path.open("a+b") as file:
            # What a kill cut off ends in no line break; ours must not be added to it.
            torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write((b"\n" if torn else b"") + text.encode())

    def write_table(self, order: Iterable[str]) -> None:
        """Replace ``predictions.csv``: the cases of ``order`` first, then what else was predicted here."""

        self.refresh()
        classes = list(self.classifier.classes)
        names = list(dict.fromkeys([*order, *self.lines]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", "predicted", *(f"p_{name}" for name in classes), "file"])
        for name in names:
            line = self.lines.get(name)
            if line is not None:
                chances = [f"{line['probabilities'][each]:.6f}" for each in classes]
                writer.writerow([name, line["predicted"], *chances, line["inputs"][0]])
        write_atomically(self.table, text.getvalue())

    def _take(self, line: dict[str, Any]) -> None:
        if float(line.get("clock", 0.0)) < self.done_since:
            return
        if line.get("model") != self._model():
            raise InferenceError(
                f"predictions made with another model ({line.get('model', {}).get('path')})",
                expected="one model for a table",
                fix="predict into another folder, or use --overwrite",
                path=self.path,
            )
        self.lines[str(line["case"])] = line

    def _model(self) -> dict[str, Any]:
        path = self.classifier.path.resolve()
        return {"path": str(path), "bytes": path.stat().st_size, "modified": int(path.stat().st_mtime)}
