"""Errors of values against MONAI's metrics, and what is undefined."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from monai.metrics import MAEMetric, PSNRMetric, RMSEMetric
from monai.metrics.regression import SSIMMetric
from rich.console import Console

from resvox.errors import EvaluationError
from resvox.evaluation import ValueTable, score_value_files, score_values
from resvox.volumes import Volume, write_volume

SPACING = (2.0, 1.0, 1.0)


def pair(shape=(12, 14, 16), channels=None):
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 30, shape if channels is None else (channels, *shape)).astype(np.float32)
    return reference + rng.normal(0, 5, reference.shape).astype(np.float32), reference


def test_numbers_are_those_of_monai():
    ours, theirs = pair()
    score = score_values(Volume(ours, spacing_mm=SPACING), Volume(theirs, spacing_mm=SPACING))["value"]
    y_pred, y = (torch.from_numpy(array)[None, None] for array in (ours, theirs))
    extent = float(theirs.max() - theirs.min())
    assert score.mae == pytest.approx(float(MAEMetric()(y_pred, y)), rel=1e-5)
    assert score.rmse == pytest.approx(float(RMSEMetric()(y_pred, y)), rel=1e-5)
    assert score.psnr_db == pytest.approx(float(PSNRMetric(extent)(y_pred, y)), rel=1e-5)
    low = float(theirs.min())
    assert score.ssim == pytest.approx(float(SSIMMetric(3, data_range=extent)(y_pred - low, y - low)), rel=1e-5)
    assert 0.5 < score.ssim < 1


def test_what_is_undefined_is_none():
    flat = Volume(np.full((4, 4), 7.0), spacing_mm=(1.0, 1.0))
    score = score_values(flat, flat)["value"]
    assert (score.mae, score.rmse, score.psnr_db, score.ssim) == (0, 0, None, None)
    thin = Volume(np.arange(20.0).reshape(2, 10), spacing_mm=(1.0, 1.0))
    assert score_values(thin, thin)["value"].ssim is None
    small = Volume(np.arange(20.0).reshape(4, 5), spacing_mm=(1.0, 1.0))
    assert score_values(small, small)["value"].ssim == pytest.approx(1)


def test_several_values_and_other_grids(tmp_path):
    ours, theirs = pair(channels=2)
    one, other = Volume(ours, spacing_mm=SPACING), Volume(theirs, spacing_mm=SPACING)
    write_volume(one, tmp_path / "p.nii.gz")
    write_volume(other, tmp_path / "r.nii.gz")
    scores = score_value_files(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz")
    assert list(scores) == ["value_0", "value_1"]
    assert scores["value_1"].mae == pytest.approx(np.abs(ours[1] - theirs[1]).mean(), rel=1e-4)
    with pytest.raises(EvaluationError, match=r"p: 2 channels against 1 of r"):
        score_values(one, Volume(theirs[0], spacing_mm=SPACING), prediction_path="p", reference_path="r")
    with pytest.raises(EvaluationError, match="on another grid"):
        score_values(one, Volume(theirs, spacing_mm=(1.0, 1.0, 1.0)))


def test_a_table_in_json_csv_and_a_terminal(tmp_path):
    ours, theirs = pair()
    score = score_values(Volume(ours, spacing_mm=SPACING), Volume(theirs, spacing_mm=SPACING))
    flat = Volume(np.full((4, 4), 7.0), spacing_mm=(1.0, 1.0))
    table = ValueTable({"a": score, "b": score_values(flat, flat)})
    told = json.loads(table.to_json(tmp_path / "s.json").read_text())
    assert told["b"]["value"] == {"mae": 0.0, "rmse": 0.0, "psnr_db": None, "ssim": None}
    assert table.summary["value"]["mae"] == pytest.approx(score["value"].mae / 2, rel=1e-5)
    assert table.summary["value"]["psnr_db"] == pytest.approx(score["value"].psnr_db, rel=1e-5)
    with table.to_csv(tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b"]
    assert rows[1]["ssim"] == ""
    screen = Console(width=100)
    with screen.capture() as capture:
        screen.print(table.table())
    assert "PSNR (dB)" in capture.get()
