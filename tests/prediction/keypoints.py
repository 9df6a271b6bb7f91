"""A toy fourth task, as an addition to prediction would be: a card and a predictor, in a file each in real life.

A network with one output; the keypoint is where its output is largest. Nothing of resvox.prediction knows of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from resvox.cards import ModelCard, Windows
from resvox.files import write_atomically
from resvox.prediction.inputs import find_scans, read_scan
from resvox.prediction.model_engine import engine_of
from resvox.prediction.model_files import model_files
from resvox.prediction.options import PredictOptions, options_of
from resvox.prediction.predictor import Written, check_scan
from resvox.prediction.results import FileResults
from resvox.prediction.tasks import TaskRow


@dataclass(frozen=True, kw_only=True)
class KeypointCard(ModelCard):
    """Where a model finds its keypoint."""

    task: ClassVar[str] = "keypoint"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "channel_names", "inference")

    inference: Windows

    @property
    def input_size(self):
        return self.inference.input_size

    def own_fields(self):
        return {"inference": self.inference.to_dict()}

    @classmethod
    def from_dict(cls, values, *, path=None):
        fields = cls.checked_fields(values, path)
        return cls(**cls.common(fields), inference=Windows.from_fields(fields.nested("inference")))


@dataclass(frozen=True, kw_only=True)
class Keypoint:
    position_mm: list[float]
    seconds: dict[str, float] = field(default_factory=dict)
    windows: int = 1
    skipped: int = 0


class KeypointPredictor:
    """Writes ``<case>.json``; in these tests scans are as large as the window."""

    batch_size = 1

    def __init__(self, model: PredictOptions, *, notify=None) -> None:
        self.options = options_of(model)
        files = model_files(self.options.model)
        self.card, self.paths = files[0].card, tuple(each.path for each in files)
        self.preprocessing = files[0].preprocessing()
        self.engine = engine_of(files, self.options, notify=notify)

    find = staticmethod(find_scans)

    def settings(self) -> dict[str, Any]:
        return {}

    def results(self, log, locks, cases, *, since):
        return FileResults(log, locks, cases, self.files_of, since=since, what="keypoint")

    def files_of(self, case):
        return (f"{case.id}{self.options.suffix}.json",)

    def read(self, case):
        return read_scan(case)

    def prepare(self, volume):
        check_scan(volume, self.card)
        return self.preprocessing.apply(volume)

    def compute(self, ready, *, progress=None):
        made = []
        for prepared in ready:
            score = self.engine(prepared.array[None])[0, 0]
            index = np.unravel_index(int(score.argmax()), score.shape)
            made.append(Keypoint(position_mm=[float(mm) for mm in prepared.grid.world_mm(index)]))
        return made

    def write(self, case, made):
        path = self.options.out / self.files_of(case)[0]
        write_atomically(path, json.dumps({"position_mm": made.position_mm}))
        return Written(path=path, fields={"position_mm": made.position_mm})


ROW = TaskRow(
    card="prediction.keypoints:KeypointCard",
    predictor="prediction.keypoints:KeypointPredictor",
    uses=frozenset({"suffix"}),
)
