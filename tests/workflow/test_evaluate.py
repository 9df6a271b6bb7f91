"""Label maps against references: matching, labels, and what is reported beside scores."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.volumes import Volume, write_label_map, write_volume
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
    assert len(result.remarks) == 4  # of each prediction and each reference
    assert "predictions/a.nii.gz: values that no label has, not scored: 5 (1 voxels)" in result.remarks[0]
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
    with pytest.raises(EvaluationError, match=r"noise\.nii\.gz: values between .* not whole numbers"):
        evaluate(scan, scan)


@pytest.mark.parametrize("text", ["{", '{"labels": 3}', '{"labels": {"liver": "two"}}', "{}"])
def test_a_file_without_labels_is_refused_by_name(two_folders, tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"labels\.json: no labels in it"):
        evaluate(*two_folders, labels=path)


def write(path, array, spacing_mm=(2.0, 1.0, 1.0), **geometry):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_volume(Volume(np.asarray(array), spacing_mm=spacing_mm, **geometry), path)


@pytest.fixture
def box():
    array = np.zeros((6, 7, 8), np.int32)
    array[1:5, 1:5, 1:5] = 1
    return array


@pytest.mark.parametrize("value", [1, 70000, 2**30])
def test_labels_may_have_large_values(box, tmp_path, value):
    write(tmp_path / "p.nii.gz", np.roll(box, 1, axis=2) * value)
    write(tmp_path / "r.nii.gz", box * value)
    result = evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz")
    assert result.labels == {f"label {value}": value}
    assert result.scores.scores["r"][f"label {value}"].dice == 0.75


def test_a_reference_with_a_negative_value_is_scored_and_named(box, tmp_path):
    for case, reference in (("a", box), ("b", np.where(box == 0, -1, box))):
        write(tmp_path / "p" / f"{case}.nii.gz", box)
        write(tmp_path / "r" / f"{case}.nii.gz", reference)
    result = evaluate(tmp_path / "p", tmp_path / "r")
    assert [result.scores.scores[case]["label 1"].dice for case in "ab"] == [1, 1]
    (remark,) = result.remarks
    assert "r/b.nii.gz: values that no label has, not scored: -1 (272 voxels)" in remark
    assert "--ignore" in remark
    (remark,) = evaluate(tmp_path / "p", tmp_path / "r", ignore=-1).remarks
    assert "272 voxels of the ignored value -1" in remark


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        {"background": 0, "whole": ["1", 2], "core": "2", "ignore": 3},
        {"background": 0, "whole": [1, 2.0], "core": 2.0, "ignore": [3]},
    ],
)
def test_regions_and_the_ignored_label_of_a_dataset_json(tmp_path, labels):
    reference = np.random.default_rng(0).integers(0, 4, (6, 7, 8)).astype(np.uint8)
    write(tmp_path / "p" / "c.nii.gz", np.where(reference == 3, 1, reference).astype(np.uint8))
    write(tmp_path / "r" / "c.nii.gz", reference)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    result = evaluate(tmp_path / "p", tmp_path / "r", json_path=tmp_path / "m.json")
    assert result.labels == {"whole": (1, 2), "core": 2}
    scores = json.loads((tmp_path / "m.json").read_text())["c"]
    assert {name: each["dice"] for name, each in scores.items()} == {"whole": 1.0, "core": 1.0}
    assert "of the ignored value 3 are not scored" in result.remarks[0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a": 1.5}, "1.5 is not a whole number"),
        ({"a": True}, "True is not a whole number"),
        ({"a": -1}, "label 'a' with value -1; expected a whole number of 0 or more"),
        ({"a": [0, 1]}, "region 'a' with values"),
        ({"a": 1, "b": 1}, "one value under two names"),
        ({"background": 0}, "at least one label"),
    ],
)
def test_wrong_labels_are_refused_with_the_name_of_their_file(two_folders, tmp_path, labels, words):
    (tmp_path / "labels.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(EvaluationError, match=words) as caught:
        evaluate(*two_folders, labels=tmp_path / "labels.json")
    assert str(caught.value).startswith(str(tmp_path / "labels.json"))


def test_labels_may_be_a_list_of_names_or_the_folder_of_a_dataset(two_folders, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": ["background", "rib", "liver"]}))
    assert evaluate(*two_folders, labels=tmp_path).labels == {"rib": 1, "liver": 2}


def test_one_reference_that_is_no_label_map_fails_alone(box, tmp_path):
    for case in "ab":
        write(tmp_path / "p" / f"{case}.nii.gz", box)
        write(tmp_path / "r" / f"{case}.nii.gz", box)
    write(tmp_path / "r" / "b.nii.gz", (box + 0.5).astype(np.float32))
    result = evaluate(tmp_path / "p", tmp_path / "r")
    assert list(result.scores.scores) == ["a"]
    (line,) = result.failed
    assert "r/b.nii.gz: values between 0.5 and 1.5 that are not whole numbers" in line


def test_a_prediction_on_another_grid_is_resampled_on_request(box, tmp_path):
    write(tmp_path / "p" / "a.nii.gz", box[:, :, ::2], spacing_mm=(2.0, 1.0, 2.0), origin_mm=(0.0, 0.0, 0.5))
    write(tmp_path / "r" / "a.nii.gz", box)
    with pytest.raises(EvaluationError, match=r"another grid .*r/a\.nii\.gz.*--resample"):
        evaluate(tmp_path / "p", tmp_path / "r")
    result = evaluate(tmp_path / "p", tmp_path / "r", resample=True)
    assert result.scores.scores["a"]["label 1"].dice > 0.7
    assert "p/a.nii.gz: resampled to the grid of its reference" in result.remarks[0]
    values = evaluate(tmp_path / "p", tmp_path / "r", task="regression", resample=True)
    assert values.scores.scores["a"]["value"].mae < 0.2


def test_two_files_of_one_case_are_refused_by_name(two_folders):
    write(two_folders[0] / "a.nrrd", np.zeros((8, 9, 10), np.uint8))
    with pytest.raises(EvaluationError, match=r"predictions: a\.nii\.gz and a\.nrrd are both the case 'a'"):
        evaluate(*two_folders)


def test_a_broken_link_among_the_references_is_reported(two_folders):
    (two_folders[1] / "extra.nii.gz").symlink_to(two_folders[1] / "gone.nii.gz")
    result = evaluate(*two_folders, labels={"liver": 2})
    assert any("references/extra.nii.gz" in line for line in result.failed)
    assert not result.ok


def test_endings_in_capitals_are_the_same_case(two_folders):
    (two_folders[0] / "a.nii.gz").rename(two_folders[0] / "a.NII.GZ")
    assert list(evaluate(*two_folders, labels={"liver": 2}).scores.scores) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "segmentation", "split": "test"}, "split='test' for segmentation.*leave --split out"),
        ({"task": "regression", "labels": {"a": 1}}, r"labels=\{'a': 1\} for regression"),
        ({"task": "regression", "tolerance_mm": 2.0}, "leave --tolerance-mm out"),
        ({"task": "segmentaton"}, "expected one of segmentation.*did you mean segmentation"),
    ],
)
def test_options_and_tasks_that_do_not_apply_are_refused(two_folders, options, words):
    with pytest.raises(EvaluationError, match=words):
        evaluate(*two_folders, **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"case,predicted,p_a,p_b\nx,a,1,0\nx,b,0,1\n", "two rows for case 'x'"),
        (b"case,predicted,p_a,p_b\nx,a,nan,0\n", "probabilities of case 'x' that are not finite"),
        (b"case,predicted,p_a,p_b\nx\xe4,a,1,0\n", "expected CSV in UTF-8"),
        (b"case,predicted,p_a\nx,a,1\n", "expected case, and p_<class> for each class"),
    ],
)
def test_a_table_of_classes_that_cannot_be_used_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(EvaluationError, match=words) as caught:
        evaluate(tmp_path / "t.csv", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))
