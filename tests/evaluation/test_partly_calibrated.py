"""Calibration of cases whose references are annotated with some of the labels alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.volumes import Volume, write_label_map, write_volume
from resvox.workflow import evaluate

SPACING = (1.0, 1.0, 1.0)


def write_cases(folder, *, labels, probabilities, described):
    """Cases of which both hold value 1 above and value 2 below; the reference of "b" is annotated with "x" alone."""
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[:2], truth[4:] = 1, 2
    partly = np.where(truth == 1, truth, 0).astype(np.uint8)
    for name, reference in (("a", truth), ("b", partly)):
        write_label_map(Volume(truth, spacing_mm=SPACING), folder / "out" / f"{name}.nii.gz")
        write_label_map(Volume(reference, spacing_mm=SPACING), folder / "labelsTr" / f"{name}.nii.gz")
        found = np.stack([np.isin(truth, values) for values in probabilities]).astype(np.float32)
        write_volume(Volume(found, spacing_mm=SPACING), folder / "out" / f"{name}_probabilities.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "labelled": {"b": ["x"]}, **described}))


def scored(folder):
    return evaluate(
        folder / "out", folder / "labelsTr", labels=folder / "dataset.json", calibration_path=folder / "c.json"
    )


def test_a_case_without_some_labels_is_left_out(tmp_path):
    """Its background may be one of the labels that it lacks, so that a sure and right answer would count as wrong."""
    labels = {"background": 0, "x": 1, "y": 2}
    write_cases(tmp_path, labels=labels, probabilities=((0,), (1,), (2,)), described={})
    result = scored(tmp_path)
    assert sorted(result.calibration.cases) == ["a"]
    assert result.calibration.overall.ece == 0
    assert "calibration without 1 cases that are not annotated with every label (b)" in result.remarks
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["left_out"] == ["b"]
    (tmp_path / "out" / "a_probabilities.nii.gz").unlink()
    with pytest.raises(EvaluationError, match=r"none of which is annotated with every label.*leave --calibration out"):
        scored(tmp_path)


def test_of_regions_those_that_are_annotated_count(tmp_path):
    labels = {"background": 0, "x": [1], "both": [1, 2]}
    write_cases(tmp_path, labels=labels, probabilities=((1,), (1, 2)), described={"regions_class_order": [1, 2]})
    result = scored(tmp_path)
    assert sorted(result.calibration.cases) == ["a", "b"]
    assert result.calibration.cases["b"].ece == 0
    assert result.calibration.cases["b"].brier == 0
    assert result.remarks == ()
    assert "left_out" not in json.loads((tmp_path / "c.json").read_text())
