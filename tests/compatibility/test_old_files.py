"""Files that resvox 0.1.0 (commit 041da23) wrote are read, continued and written as it did.

tests/old_files/make.py shows how they were made. Only public entry points are called. Numbers are compared to 1e-4:
with AVX2, with AVX-512 and without either, the old code's own numbers differ by up to 3e-6 after these 24 steps.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import resvox
from resvox import workflow
from resvox.cli import app
from resvox.errors import InferenceError
from resvox.training import ClassificationPlan, Plan, RegressionPlan, load_plan
from resvox.volumes import read_volume, write_volume
from resvox.workflow.classifier import Classifier
from resvox.workflow.segmenter import Segmenter

OLD = Path(__file__).parents[1] / "old_files"
MADE = "/made/here"  # stands in the old files for the folder where they were made
PLANS = {"segmentation": Plan, "classification": ClassificationPlan, "regression": RegressionPlan}
TASKS = tuple(PLANS)
DATA = {"segmentation": "data", "classification": "data.npz", "regression": "data"}
NETWORKS = {"segmentation": "network.pt", "classification": "network.pt2", "regression": "network.onnx"}
EXACT = {"device": "cpu", "precision": "float32"}
CHECKPOINT = 12  # the step that the stopped runs go on from
TEXTS = (".jsonl", ".csv", ".yaml", ".json")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Call it with a task: a folder as if 0.1.0 had written it there, with paths and times as its logs say."""
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESVOX_PREPARED", raising=False)

    def place(task):
        root = Path(shutil.copytree(OLD / task, tmp_path / task))
        for path in root.rglob("*"):
            if path.suffix in TEXTS:
                path.write_text(path.read_text().replace(MADE, str(tmp_path)))
        moment = lines_of(root / "predictions/predict.jsonl")[0]["model"]["modified"]
        os.utime(root / "model.safetensors", (moment, moment))
        return root

    return place


def lines_of(log):
    """The lines of a log as objects; a line that a kill cut off is left out."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def options_of(task):
    """The arguments of `workflow.predict` with which the old predictions were made."""
    return {**EXACT, "engine": "torch-plain"} if task == "segmentation" else EXACT


def header_of(path):
    """The texts in the header of a model file."""
    content = path.read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]


def rows_of(table):
    with table.open() as file:
        return list(csv.DictReader(file))


def assert_same_rows(rows, expected, *, skipped=()):
    """Two tables with equal words and close numbers."""
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        for name in wanted:
            if name not in skipped:
                try:
                    number = float(wanted[name])
                except ValueError:
                    assert row[name] == wanted[name], (name, wanted)
                else:
                    assert float(row[name]) == pytest.approx(number, rel=1e-4, abs=1e-5), (name, wanted)


def assert_same_volume(path, expected):
    """Two files with one grid, one type and equal labels or close values."""
    made, wanted = read_volume(path), read_volume(expected)
    assert made.grid == wanted.grid
    assert made.array.dtype == wanted.array.dtype
    if wanted.array.dtype.kind == "f":
        np.testing.assert_allclose(made.array, wanted.array, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(made.array, wanted.array)


# ---------------------------------------------------------------------------------------------- models and plans


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_model_predicts_what_it_did(old, task):
    root = old(task)
    options = options_of(task) | ({"probabilities": True} if task == "segmentation" else {})
    result = workflow.predict(root / "model.safetensors", root / "scans", root / "out", **options)
    assert [case.status for case in result.cases] == ["written"] * 3
    expected = [*(root / "predictions").glob("*.nii.gz"), *(root / "missing").glob("*.nii.gz")]
    assert len(expected) == (4 if task == "segmentation" else 3)
    for path in expected:
        assert_same_volume(root / "out" / path.name, path)


def test_a_classifier_predicts_what_it_did(old):
    root = old("classification")
    workflow.predict(root / "model.safetensors", root / "data.npz", root / "out", **EXACT)
    assert_same_rows(rows_of(root / "out/predictions.csv"), rows_of(root / "missing/predictions.csv"))


@pytest.mark.parametrize("task", TASKS)
def test_an_exported_network_predicts_what_it_did(old, task):
    root = old(task)
    inputs = root / ("data.npz" if task == "classification" else "scans/fay.nii.gz")
    assert workflow.predict(root / NETWORKS[task], inputs, root / "out").ok
    if task == "classification":
        assert_same_rows(rows_of(root / "out/predictions.csv"), rows_of(root / "missing/predictions.csv"))
    else:
        assert_same_volume(root / "out/fay.nii.gz", root / "missing/fay.nii.gz")


@pytest.mark.parametrize("task", TASKS)
def test_a_model_file_is_written_as_it_was(old, task):
    root = old(task)
    before = header_of(root / "model.safetensors")
    model = resvox.load_model(root / "model.safetensors")
    resvox.save_model(model, root / "again.safetensors", metadata=json.loads(before["metadata"]))
    after = header_of(root / "again.safetensors")
    assert set(after) == set(before)
    for name in ("resvox_format", "blueprint", "metadata"):
        assert after[name] == before[name]


@pytest.mark.parametrize("task", TASKS)
def test_an_export_is_described_as_it_was(old, task):
    root = old(task)
    network = root / NETWORKS[task]
    described = json.loads(network.with_suffix(".json").read_text())
    workflow.export(root / "model.safetensors", network, format=described["format"], overwrite=True)
    again = json.loads(network.with_suffix(".json").read_text())
    assert again.pop("precision") == "float32"  # newer descriptions state it
    assert list(again) == list(described)
    for name in ("sha256", "checked", "resvox", "torch"):  # these are of the program that exports
        again.pop(name), described.pop(name)
    # Where sizes are open, newer descriptions also give the smallest one that was tried.
    smallest = again["input"].pop("smallest", None)
    assert (smallest is None) == ("any" not in again["input"]["shape"][2:])
    # More networks are exported with open sizes than before.
    sizes = zip(again["input"]["shape"], described["input"]["shape"], strict=True)
    again["input"]["shape"] = [before if now == "any" else now for now, before in sizes]
    assert json.dumps(again) == json.dumps(described)


@pytest.mark.parametrize("task", TASKS)
def test_a_plan_is_read_and_written_with_the_same_fields(old, task):
    root = old(task)
    plan = load_plan(root / "plan.yaml")
    assert type(plan) is PLANS[task]
    assert load_plan(plan.save(root / "again.yaml")) == plan
    new, before = (
        [line for line in (root / name).read_text().splitlines() if line and not line.startswith("#")]
        for name in ("again.yaml", "plan.yaml")
    )
    # Newer plans may have more fields; those of old ones keep their values and their order.
    assert [line for line in new if line in before] == before


def test_the_classes_that_the_guides_teach_stay_where_they_were(old):
    root = old("segmentation")
    segmenter = Segmenter(root / "model.safetensors", engine="torch-plain", **EXACT)
    made = segmenter.segment(read_volume(root / "scans/fay.nii.gz"), probabilities=True)
    write_volume(made.probabilities, root / "again.nii.gz")
    np.testing.assert_array_equal(made.label_map.array, read_volume(root / "missing/fay.nii.gz").array)
    assert_same_volume(root / "again.nii.gz", root / "missing/fay_probabilities.nii.gz")
    root = old("classification")
    classifier = Classifier(root / "model.safetensors", **EXACT)
    with np.load(root / "data.npz") as arrays:
        image = resvox.volumes.Volume(arrays["test_images"][5], spacing_mm=(1.0, 1.0))
    wanted = rows_of(root / "missing/predictions.csv")[5]
    assert classifier.classify(image) == pytest.approx(
        {name: float(wanted[f"p_{name}"]) for name in classifier.classes}, abs=1e-5
    )


# ---------------------------------------------------------------------------------------------- runs that go on


def assert_same_run(root):
    """The run in ``stopped`` has ended as the one that nothing interrupted."""
    run = root / "stopped"
    assert_same_rows(rows_of(run / "metrics.csv"), rows_of(root / "metrics.csv"), skipped=["seconds"])
    kept = (OLD / root.name / "stopped/metrics.csv").read_text().splitlines()[: CHECKPOINT + 1]
    assert (run / "metrics.csv").read_text().splitlines()[: CHECKPOINT + 1] == kept
    found, wanted = (
        resvox.load_model(path).state_dict() for path in (run / "model.safetensors", root / "model.safetensors")
    )
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), tensor.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    after, before = header_of(run / "model.safetensors"), header_of(root / "model.safetensors")
    assert after["blueprint"] == before["blueprint"]
    # The scores of the run differ in their last digits; all else is the same text.
    after, before = json.loads(after["metadata"]), json.loads(before["metadata"])
    scores = "dice" if root.name == "segmentation" else "scores"
    assert after["training"][scores] == pytest.approx(before["training"][scores], rel=1e-4, abs=1e-5)
    after["training"][scores] = {name: before["training"][scores][name] for name in after["training"][scores]}
    # The validations after the resume fitted a temperature, which the version that began the run did not know.
    assert ("temperature" in after) == (root.name == "segmentation")
    after.pop("temperature", None)
    assert json.dumps(after) == json.dumps(before)


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_ends_as_if_nothing_had_stopped_it(old, task):
    root = old(task)
    assert not (root / "stopped/model.safetensors").exists()
    if task == "segmentation":
        words = ["train", root / DATA[task], "-o", root / "stopped", "--resume", "--device", "cpu"]
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    else:
        workflow.train(root / DATA[task], root / "stopped", resume=True, device="cpu", progress=False)
    assert_same_run(root)


def test_a_plan_of_an_old_run_trains_a_new_one_alike(old):
    root = old("regression")
    workflow.train(root / "data", root / "new", plan=root / "plan.yaml", device="cpu", progress=False)
    assert_same_rows(rows_of(root / "new/metrics.csv"), rows_of(root / "metrics.csv"), skipped=["seconds"])


# ---------------------------------------------------------------------------------- folders of predictions that go on


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_second_predict_does_what_is_missing(old, task):
    root = old(task)
    out, log = root / "predictions", root / "predictions/predict.jsonl"
    before, there = log.read_text(), {path: path.read_bytes() for path in out.glob("*.nii.gz")}
    result = workflow.predict(root / "model.safetensors", root / "scans", out, **options_of(task))
    assert [(case.id, case.status, case.reason) for case in result.cases] == [
        ("dan", "present", ""),
        ("eva", "present", ""),
        ("fay", "written", ""),
    ]
    assert {path: path.read_bytes() for path in there} == there
    assert_same_volume(out / "fay.nii.gz", root / "missing/fay.nii.gz")
    assert log.read_text().startswith(before)
    *earlier, added = lines_of(log)
    assert len(earlier) == 2
    assert set(earlier[-1]) <= set(added)
    assert added["model"] == earlier[-1]["model"]
    assert (added["file"], added["inputs"]) == ("fay.nii.gz", [str((root / "scans/fay.nii.gz").resolve())])
    assert set(earlier[-1]["seconds"]) <= set(added["seconds"])


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_what_the_old_log_knows_is_used(old, task):
    root = old(task)
    os.utime(root / "model.safetensors", (1, 1))
    scan = Path(shutil.copytree(root / "scans", root / "others")) / "eva.nii.gz"
    result = workflow.predict(root / "model.safetensors", root / "scans/dan.nii.gz", root / "predictions", **EXACT)
    assert "made with another model" in result.cases[0].reason
    result = workflow.predict(root / "model.safetensors", scan, root / "predictions", **EXACT)
    assert result.cases[0].status == "failed"
    assert str(root / "scans/eva.nii.gz") in result.cases[0].reason
    result = workflow.predict(root / "model.safetensors", root / "scans", root / "predictions", overwrite=True, **EXACT)
    assert [case.status for case in result.cases] == ["written"] * 3


def test_a_table_of_classes_is_completed(old):
    root = old("classification")
    out, log = root / "predictions", root / "predictions/predict.jsonl"
    before = log.read_text()
    result = workflow.predict(root / "model.safetensors", root / "data.npz", out, **EXACT)
    assert [case.status for case in result.cases] == ["present"] * 4 + ["written"] * 5
    assert_same_rows(rows_of(out / "predictions.csv"), rows_of(root / "missing/predictions.csv"))
    assert log.read_text().startswith(before + "\n")  # the torn line ends before new ones begin
    found = lines_of(log)
    assert [line["case"] for line in found] == [f"test_{number}" for number in range(9)]
    assert all(set(found[0]) <= set(line) for line in found)
    assert str(workflow.predict(root / "model.safetensors", root / "data.npz", out, **EXACT)) == "9 already done"


def test_a_table_of_another_model_is_not_mixed_up(old):
    root = old("classification")
    os.utime(root / "model.safetensors", (1, 1))
    with pytest.raises(InferenceError, match="another model"):
        workflow.predict(root / "model.safetensors", root / "data.npz", root / "predictions", **EXACT)
    again = workflow.predict(
        root / "model.safetensors", root / "data.npz", root / "predictions", overwrite=True, **EXACT
    )
    assert str(again) == "9 written"
