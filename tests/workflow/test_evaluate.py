"""Label maps against references: matching, labels, and what is reported beside scores."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.volumes import Volume, write_label_map
from resvox.workflow import evaluate


@pytest.fixture
def two_folders(tmp_path):
    """Predictions a, b, extra against references a, b, missing; b is one voxel off."""
    reference = np.zeros((8, 9, 10), np.uint8)
    reference[2:6, 2:6, 2:6] = 2
    reference[7, 8, 9] = 5
    shifted = np.roll(reference, 1, axis=2)

    def write(folder, name, array):
        write_label_map(Volume(array, spacing_mm=(2.0, 1.0, 1.0)), tmp_path / folder / f"{name}.nii.gz")

    for name, array in (("a", reference), ("b", shifted), ("extra", reference)):
        write("predictions", name, array)
    for name in ("a", "b", "missing"):
        write("references", name, reference)
    return tmp_path / "predictions", tmp_path / "references"


def test_folders_are_matched_by_name_and_the_rest_is_told(two_folders):
    result = evaluate(*two_folders, labels={"liver": 2})
    scores = result.scores.scores
    assert list(scores) == ["a", "b"]
    assert scores["a"]["liver"].dice == 1
    assert scores["b"]["liver"].dice == pytest.approx(0.75)
    assert scores["b"]["liver"].hd95_mm == pytest.approx(1)
    assert (result.missing, result.extra, result.failed) == (("missing",), ("extra",), ())
    assert len(result.remarks) == 2
    assert "a.nii.gz: values that no label has, not scored: 5 (1 voxels)" in result.remarks[0]
    assert not result.ok


def test_labels_are_the_values_where_nobody_names_them(two_folders):
    assert evaluate(*two_folders).labels == {"label 2": 2, "label 5": 5}


def test_labels_come_from_a_dataset_json_beside_the_references(two_folders):
    described = {"labels": {"background": 0, "liver": 2, "nail": 5}}
    (two_folders[1].parent / "dataset.json").write_text(json.dumps(described))
    assert evaluate(*two_folders).labels == {"liver": 2, "nail": 5}


@pytest.mark.parametrize("labels", [{"background": 0, "liver": 2}, {"0": "background", "2": "liver"}])
def test_labels_come_from_a_file_in_either_dialect(two_folders, tmp_path, labels):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"labels": labels}))
    assert evaluate(*two_folders, labels=path).labels == {"liver": 2}


def test_labels_come_from_a_model(two_folders, make_model):
    assert evaluate(*two_folders, labels=make_model()).labels == {"dark": 3, "bright": 7}


def test_files_are_written_for_machines(two_folders, tmp_path):
    evaluate(*two_folders, labels={"liver": 2}, json_path=tmp_path / "m.json", csv_path=tmp_path / "deep" / "m.csv")
    told = json.loads((tmp_path / "m.json").read_text())
    assert told["b"]["liver"]["dice"] == pytest.approx(0.75)
    rows = list(csv.DictReader((tmp_path / "deep" / "m.csv").open()))
    assert [row["case"] for row in rows] == ["a", "b"]


def test_a_file_is_scored_against_a_file_whatever_they_are_called(two_folders):
    result = evaluate(two_folders[0] / "extra.nii.gz", two_folders[1] / "a.nii.gz", labels={"liver": 2})
    assert result.scores.scores["a"]["liver"].dice == 1
    assert result.ok


def test_a_case_that_cannot_be_compared_is_reported_and_the_others_are_scored(two_folders):
    (two_folders[0] / "a.nii.gz").write_text("no label map")
    result = evaluate(*two_folders, labels={"liver": 2})
    assert list(result.scores.scores) == ["b"]
    assert len(result.failed) == 1
    assert str(two_folders[0] / "a.nii.gz") in result.failed[0]
    assert not result.ok


@pytest.mark.parametrize(
    ("predictions", "references", "text"),
    [
        ("nowhere", "references", "nowhere: no such file or folder"),
        ("predictions/a.nii.gz", "references", "a file against a folder"),
        ("predictions", "other", "share no case name.*rename"),
    ],
)
def test_what_cannot_be_matched_is_refused(two_folders, tmp_path, predictions, references, text):
    write_label_map(Volume(np.ones((3, 3, 3), np.uint8), spacing_mm=(1.0,) * 3), tmp_path / "other" / "z.nii.gz")
    with pytest.raises(EvaluationError, match=text):
        evaluate(tmp_path / predictions, tmp_path / references, labels={"liver": 2})


def test_an_image_is_no_label_map(two_folders, write_scan, tmp_path):
    noise = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    scan = write_scan(tmp_path / "noise.nii.gz", noise)
    with pytest.raises(EvaluationError, match=r"noise\.nii\.gz: not a label map"):
        evaluate(scan, scan)


@pytest.mark.parametrize("text", ["{", '{"labels": 3}', '{"labels": {"liver": "two"}}', "{}"])
def test_a_file_without_labels_is_refused_by_name(two_folders, tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"labels\.json: no labels in it"):
        evaluate(*two_folders, labels=path)
