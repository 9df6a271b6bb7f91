"""A fourth task trains, predicts and evaluates with a row in each of three tables, and its name in the list of tasks.

These four source files are the only ones that an addition changes; here the rows are added while the tests run.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from prediction.keypoints import ROW as PREDICTION_ROW
from training.keypoint_task import EVALUATION_ROW, TRAINING_ROW

import resvox.evaluation.tasks
import resvox.prediction.tasks
import resvox.training.tasks
from resvox.errors import PlanError
from resvox.training import load_plan
from resvox.training.logs import read_metrics
from resvox.volumes import Volume, write_volume
from resvox.weights import read_header
from resvox.workflow import evaluate, predict, train

ROWS = (
    (resvox.training.tasks.TASKS, TRAINING_ROW),
    (resvox.prediction.tasks.TASKS, PREDICTION_ROW),
    (resvox.evaluation.tasks.TASKS, EVALUATION_ROW),
)
SMALL = {
    "encoder": "resnet10", "encoder_depth": 2, "decoder_filters": (8, 8), "strides": (2, 2, 1, 1, 1),
    "norm": "instance", "patch_size": (8, 8, 8), "batch_size": 2, "steps": 30, "warmup_steps": 0, "learning_rate": 1e-2,
    "validation_interval": 15, "checkpoint_interval": 15,
}  # fmt: skip


@pytest.fixture
def points(tmp_path):
    """Scans of 8 voxels per axis with one bright voxel, and its place in mm beside each."""
    folder = tmp_path / "points"
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        array = rng.normal(0, 0.1, (8, 8, 8)).astype(np.float32)
        index = tuple(int(place) for place in rng.integers(1, 7, 3))
        array[index] = 5
        volume = Volume(array, spacing_mm=(2.0, 1.0, 1.0))
        write_volume(volume, folder / f"{name}.nii.gz")
        (folder / f"{name}.json").write_text(json.dumps([float(mm) for mm in volume.grid.world_mm(index)]))
    return folder


def planned(points, tmp_path):
    """A plan as `--plan-only` writes it, changed as a user would."""
    plan = train(points, tmp_path / "plan", task="keypoint", plan_only=True, device="cpu").plan
    return plan.with_changes(**SMALL)


def test_a_task_without_rows_is_refused_by_name(points, tmp_path):
    with pytest.raises(PlanError, match="task='keypoint'; expected one of segmentation, classification, regression"):
        train(points, tmp_path / "run", task="keypoint")


def test_a_fourth_task_trains_predicts_and_is_evaluated(points, tmp_path, monkeypatch):
    for table, row in ROWS:
        monkeypatch.setitem(table, "keypoint", row)
    done = train(points, tmp_path / "run", plan=planned(points, tmp_path), device="cpu", progress=False)
    assert load_plan(tmp_path / "run/plan.yaml") == done.plan
    assert done.fit.shown == "distance"
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv") if row["distance"] is not None] == [
        15,
        30,
    ]
    metadata = read_header(done.fit.model_path).metadata
    assert (metadata["task"], metadata["inference"]["roi_size"]) == ("keypoint", [8, 8, 8])
    options = {"device": "cpu", "engine": "torch-plain"}
    result = predict(tmp_path / "run", points, tmp_path / "out", **options)
    assert [case.status for case in result.cases] == ["written"] * 4
    scores = evaluate(tmp_path / "out", points, task="keypoint", json_path=tmp_path / "scores.json").scores
    assert json.loads((tmp_path / "scores.json").read_text()) == scores.to_dict()
    assert sorted(scores.values())[1] < 2  # the network has learned where the bright voxel is in most scans
    with pytest.raises(PlanError, match=r"weights='w\.pth' for a keypoint; expected new weights"):
        train(points, tmp_path / "other", task="keypoint", weights="w.pth")


def test_a_run_of_a_fourth_task_is_resumed(points, tmp_path, monkeypatch):
    for table, row in ROWS:
        monkeypatch.setitem(table, "keypoint", row)
    plan = planned(points, tmp_path)
    whole = train(points, tmp_path / "whole", plan=plan, device="cpu", progress=False).fit

    class StopError(Exception):
        pass

    from resvox.training import fit
    from resvox.training.tasks import read_for

    def on_step(report):
        if report.step == 20:
            raise StopError

    dataset = read_for("keypoint", points)
    with pytest.raises(StopError):
        fit(dataset, plan, tmp_path / "run", on_step=on_step, progress=False)
    again = train(points, tmp_path / "run", resume=True, device="cpu", progress=False).fit
    assert [row["loss"] for row in again.history] == pytest.approx([row["loss"] for row in whole.history], rel=1e-4)
