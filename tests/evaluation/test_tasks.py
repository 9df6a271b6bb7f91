"""The table of tasks: a new task is one file and one row."""

from __future__ import annotations

import json
import sys
import types

import pytest

from resvox import workflow
from resvox.catalog import TASKS
from resvox.errors import EvaluationError
from resvox.evaluation import tasks
from resvox.evaluation.result import EvaluateResult


def test_every_task_of_the_catalog_has_a_row_and_every_row_resolves():
    assert set(tasks.TASKS) == set(TASKS)
    for row in tasks.TASKS.values():
        for dotted in filter(None, (row.evaluate, row.recognises)):
            module, _, name = dotted.rpartition(".")
            assert callable(getattr(__import__(module, fromlist=[name]), name))


class KeypointScores(dict):
    def to_dict(self):
        return dict(self)

    def to_json(self, path):
        path.write_text(json.dumps(self))
        return path


def test_a_new_task_needs_a_row_and_a_module(monkeypatch, tmp_path):
    toy = types.ModuleType("toy_keypoint_files")

    def evaluate_points(predictions, references, options, on_case):
        ours, theirs = (json.loads(path.read_text()) for path in (predictions, references))
        distance = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) * (1 if options.ignore is None else 0)
        return EvaluateResult(scores=KeypointScores(distance=distance), labels={})

    toy.evaluate_points = evaluate_points
    toy.is_points = lambda path: path.suffix == ".points"
    monkeypatch.setitem(sys.modules, "toy_keypoint_files", toy)
    row = tasks.EvaluationTask(
        evaluate="toy_keypoint_files.evaluate_points", options=("ignore",), recognises="toy_keypoint_files.is_points"
    )
    monkeypatch.setitem(tasks.TASKS, "keypoint", row)
    for name, points in (("p.points", [1, 2, 3]), ("r.points", [1, 2, 5])):
        (tmp_path / name).write_text(json.dumps(points))
    found = workflow.evaluate(tmp_path / "p.points", tmp_path / "r.points", json_path=tmp_path / "s.json")
    assert found.scores.to_dict() == json.loads((tmp_path / "s.json").read_text()) == {"distance": 2}
    assert workflow.evaluate(tmp_path / "p.points", tmp_path / "r.points", ignore=1).scores["distance"] == 0
    with pytest.raises(EvaluationError, match="resample=True for keypoint; expected one of its options: ignore"):
        workflow.evaluate(tmp_path / "p.points", tmp_path / "r.points", task="keypoint", resample=True)
    with pytest.raises(EvaluationError, match="expected one of segmentation, classification, regression, keypoint"):
        workflow.evaluate(tmp_path / "p.points", tmp_path / "r.points", task="boxes")
