"""A fourth task is a row of the table: the batch loop, the log, locks and processes take it as it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from prediction.keypoints import ROW

import resvox
from resvox.errors import InferenceError, WeightsError
from resvox.prediction.tasks import TASKS
from resvox.volumes import Volume, write_volume
from resvox.workflow import predict


@pytest.fixture
def keypoint_file(tmp_path):
    """A network whose largest output is at the brightest voxel."""
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=1, decoder_filters=(2,), widths=(2,) * 4, stem_width=2,
        spatial_dims=3, in_channels=1, num_classes=1,
    ).eval()  # fmt: skip
    metadata = {
        "task": "keypoint",
        "preprocessing": {"orientation": "SPL"},
        "channel_names": ["CT"],
        "inference": {"roi_size": [8, 8, 8]},
    }
    torch.manual_seed(0)
    return resvox.save_model(network, tmp_path / "model.safetensors", metadata=metadata)


@pytest.fixture
def scan(tmp_path):
    array = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    return write_volume(Volume(array, spacing_mm=(2.0, 1.0, 1.0)), tmp_path / "scans" / "a.nii.gz")


def test_a_task_without_a_row_is_refused_by_name(keypoint_file, scan, tmp_path):
    with pytest.raises(WeightsError, match=r"model\.safetensors: a model for keypoint; expected a model for segm"):
        predict(keypoint_file, scan, tmp_path / "out")


def test_a_row_is_all_that_prediction_needs(keypoint_file, scan, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "keypoint", ROW)
    (tmp_path / "scans" / "b.nii.gz").write_text("no scan")
    options = {"device": "cpu", "engine": "torch-plain"}
    result = predict(keypoint_file, tmp_path / "scans", tmp_path / "out", **options)
    assert [case.status for case in result.cases] == ["written", "failed"]
    made = json.loads((tmp_path / "out" / "a.json").read_text())["position_mm"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "predict.jsonl").read_text().splitlines()]
    assert [(line["case"], line["status"]) for line in lines] == [("a", "written"), ("b", "failed")]
    assert lines[0]["position_mm"] == made
    assert (lines[0]["file"], lines[0]["engine"]) == ("a.json", "torch")
    again = predict(keypoint_file, scan, tmp_path / "out", **options)
    assert str(again) == "1 already done"
    with pytest.raises(InferenceError, match=r"mirror=True with a model for keypoint; expected .* only suffix"):
        predict(keypoint_file, scan, tmp_path / "out", mirror=True)
