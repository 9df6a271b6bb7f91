"""What was done in a folder of predictions: one line of JSON a case, and what it tells a later run."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox._version import __version__
from resvox.errors import VolumeError

if TYPE_CHECKING:
    from resvox.prediction.outcomes import CaseOutcome
    from resvox.prediction.regressor import Regressor
    from resvox.prediction.segmenter import Segmenter
    from resvox.volumes import InputCase

NAME = "predict.jsonl"


class RunLog:
    """``predict.jsonl`` of a folder: read when made, added to case by case.

    Args:
        folder: where the label maps are.
        segmenter: what makes them now.
        done_since: a label map older than this (seconds, the folder's clock) is to be done again.
    """

    def __init__(self, folder: Path, segmenter: Segmenter | Regressor, *, done_since: float = 0.0) -> None:
        self.path = folder / NAME
        self.segmenter = segmenter
        self.done_since = done_since
        self._made = _last_lines(self.path)

    def is_done(self, target: Path) -> bool:
        """Whether a label map is there; written at once or not at all, it is whole if it is there."""
        return target.exists() and target.stat().st_mtime >= self.done_since

    def remark(self, case: InputCase, target: Path) -> str:
        """What a reader should know of a label map that is kept; empty where there is nothing to say.

        Raises:
            VolumeError: it was made from another scan of the same name.
        """
        line = self._made.get(target.name, {})
        source = [str(Path(path).resolve()) for path in case.paths]
        if line.get("inputs", source) != source:
            raise VolumeError(
                f"a label map called {target.name} is there already, made from {', '.join(line['inputs'])}",
                expected="one scan a name",
                fix="predict into another folder, or use --suffix or --overwrite",
                path=case.paths[0],
            )
        model = line.get("model")
        if model is not None and model != self._model():
            return f"kept, though made with another model ({model['path']}); --overwrite does it again"
        return ""

    def add(self, case: InputCase, outcome: CaseOutcome) -> None:
        """Append a line in one write, so that processes sharing a folder do not tear each other's lines."""
        if outcome.status not in ("written", "failed"):
            return
        line = {
            "case": outcome.id,
            "status": outcome.status,
            "file": outcome.path.name if outcome.path else None,
            "reason": outcome.reason,
            "inputs": [str(Path(path).resolve()) for path in case.paths],
            "seconds": {stage: round(spent, 4) for stage, spent in outcome.seconds.items()},
            "model": self._model(),
            "engine": str(getattr(self.segmenter.engine, "name", "")),
            "device": str(self.segmenter.engine.device),
            "precision": self.segmenter.engine.precision,
            "windows": outcome.windows,
            "skipped": outcome.skipped,
            "resvox": __version__,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        # The label map is what counts: a disk too full for a line of the log does not end the batch.
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _model(self) -> dict[str, Any]:
        path = self.segmenter.path.resolve()
        return {"path": str(path), "bytes": path.stat().st_size, "modified": int(path.stat().st_mtime)}


def _last_lines(path: Path) -> dict[str, dict[str, Any]]:
    """The newest line of each label map; a line that a kill cut off is passed over."""
    made: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return made
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and line.get("status") == "written":
                made[str(line.get("file"))] = line
    return made
