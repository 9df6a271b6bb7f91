"""Cross-validation: folds, kills between and within them, scores out of fold, post-processing, the ensemble."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from resvox.cards.postprocessing import LabelRule
from resvox.cards.segmentation import SegmentationCard
from resvox.errors import DatasetError, PlanError, WeightsError
from resvox.prediction.postprocessing.rules import applied, apply_rules
from resvox.training import read_dataset
from resvox.volumes import Volume, read_label_map, write_label_map
from resvox.weights import read_header
from resvox.workflow import TrainOptions, predict, train
from resvox.workflow.folds.assignment import assign_folds, dataset_of_fold
from resvox.workflow.folds.choices import choose_rules
from resvox.workflow.folds.folder import FoldsFolder
from resvox.workflow.folds.out_of_fold import Predicted, doubts_of, file_name, forget_fold, predict_out_of_fold

CASES = ("a", "b", "c", "d", "e", "f")


def write_scan(path, array):
    """A scan of whole numbers, or a label map, with voxels of 3 x 2 x 2 mm."""
    return write_label_map(Volume(array, spacing_mm=(3.0, 2.0, 2.0)), path)


def case(name, *, group=None, label=None, split=None):
    return SimpleNamespace(id=name, group=group, label=label, split=split)


# ---------------------------------------------------------------------------------------------- which case, which fold


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=13, max_size=60),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_folds_hold_every_case_once_keep_groups_and_are_of_similar_size(rows, folds, seed):
    cases = [case(f"c{number:02d}", group=f"p{group}", label=str(label)) for number, (group, label) in enumerate(rows)]
    groups = {each.group for each in cases}
    if len(groups) < folds:
        with pytest.raises(DatasetError, match=rf"{len(groups)} groups of labelled cases for {folds} folds"):
            assign_folds(cases, folds, seed=seed)
        return
    found = assign_folds(cases, folds, seed=seed)
    assert sorted(found) == sorted(each.id for each in cases)
    assert set(found.values()) == set(range(folds))
    for group in groups:
        assert len({found[each.id] for each in cases if each.group == group}) == 1
    assert found == assign_folds(cases[::-1], folds, seed=seed)


def test_single_cases_are_spread_evenly_and_each_class_too():
    cases = [case(f"c{number:03d}", label="rare" if number % 10 == 0 else "common") for number in range(100)]
    found = assign_folds([*cases, case("held", split="test")], 5, seed=0)
    assert "held" not in found
    assert Counter(found.values()) == dict.fromkeys(range(5), 20)
    assert Counter(found[each.id] for each in cases if each.label == "rare") == dict.fromkeys(range(5), 2)
    assert found != assign_folds(cases, 5, seed=1)


def test_too_few_cases_for_the_folds_are_refused_with_the_fix():
    with pytest.raises(DatasetError, match=r"2 labelled cases for 5 folds.*--folds 2"):
        assign_folds([case("a"), case("b")], 5, seed=0)


# ---------------------------------------------------------------------------------------------- rules of label maps


def squares():
    """Two components of value 1 (9 and 1 pixels), the larger one with a hole, and one pixel of value 2 in another."""
    array = np.zeros((9, 12), np.uint8)
    array[1:4, 1:4] = 1
    array[2, 2] = 0
    array[6, 9] = 1
    array[7, 2] = 2
    return array


def test_rules_keep_the_largest_drop_the_small_and_fill_holes():
    array = squares()
    largest = applied(array, LabelRule(values=(1,), largest=True), voxel=4.0)
    assert (largest[6, 9], largest[2, 2], largest[7, 2]) == (0, 0, 2)
    assert applied(array, LabelRule(values=(1,), smallest=4.1), voxel=4.0)[6, 9] == 0  # mm, not voxels
    assert applied(array, LabelRule(values=(1,), smallest=4.0), voxel=4.0)[6, 9] == 1
    filled = applied(array, LabelRule(values=(1,), holes=True), voxel=4.0)
    assert (filled[2, 2], filled[6, 9]) == (1, 1)
    array[2, 2] = 2  # a hole that is another label stays
    assert applied(array, LabelRule(values=(1,), holes=True), voxel=4.0)[2, 2] == 2
    assert np.array_equal(array, applied(array, LabelRule(values=(5,), largest=True), voxel=1.0))


def test_a_region_of_several_values_is_one_structure():
    array = squares()
    array[4, 2] = 2  # touches the larger square
    made = applied(array, LabelRule(values=(1, 2), largest=True), voxel=1.0)
    assert (made[4, 2], made[7, 2], made[6, 9]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ([{"values": [1]}], "one of largest, smallest and holes"),
        ([{"values": [1, 2], "holes": True}], "one value"),
        ([{"largest": True}], "postprocessing.0.values"),
        ({"values": [1]}, "a list of rules"),
        ([{"values": [1], "smallest": -1}], "postprocessing.0.smallest"),
    ],
)
def test_rules_of_a_card_that_cannot_be_are_refused_by_field_and_file(field, words):
    values = {
        "preprocessing": {},
        "labels": {"b": 0, "x": 1},
        "channel_names": ["CT"],
        "inference": {"roi_size": [8, 8]},
    }
    card = SegmentationCard.from_dict(values)
    assert card.postprocessing is None
    assert "postprocessing" not in card.to_dict()  # old files are unchanged
    with pytest.raises(WeightsError, match=words) as error:
        SegmentationCard.from_dict({**values, "postprocessing": field}, path="m.safetensors")
    assert "m.safetensors" in str(error.value)
    good = [{"values": [1], "largest": True, "smallest": 2.5, "holes": True}]
    assert SegmentationCard.from_dict({**values, "postprocessing": good}).to_dict()["postprocessing"] == good


def test_rules_are_chosen_only_where_they_help_out_of_fold(tmp_path):
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1, "y": 2}, "file_ending": ".nii.gz"}
    for number, name in enumerate(CASES):
        truth = np.zeros((12, 12, 12), np.uint8)
        truth[2:7, 2:7, 2:7] = 1
        truth[9:11, 2:4, 2:4] = 2
        truth[9:11, 8:10, 8:10] = 2  # two parts: the largest component alone would be worse
        write_scan(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", truth * np.uint8(100))
        write_scan(tmp_path / "labelsTr" / f"{name}.nii.gz", truth)
        found = truth.copy()
        found[10, 10, 2 + number % 3] = 1  # a speck
        found[4, 4, 4] = 0  # a hole
        write_scan(tmp_path / "oof" / f"{name}.nii.gz", found)
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    dataset = read_dataset(tmp_path)
    predicted = [Predicted(case=each, fold=0, path=tmp_path / "oof" / f"{each.id}.nii.gz") for each in dataset.cases]
    choice = choose_rules(dataset, predicted, lambda line: None)
    (rule,) = choice.rules
    assert rule.values == (1,)
    assert rule.holes
    assert rule.smallest or rule.largest
    assert choice.after["x"] == 1.0 > choice.before["x"]
    assert choice.after["y"] == choice.before["y"] == 1.0
    assert choose_rules(dataset, predicted[:2], lambda line: None).rules == ()  # two cases show nothing


def test_components_reach_into_what_was_not_annotated(tmp_path):
    """A piece of a large component is kept as a prediction keeps it, although few of its voxels are annotated."""
    labels = {"background": 0, "x": 1, "ignore": 2}
    for name in "abc":
        truth = np.zeros((12, 12, 12), np.uint8)
        truth[5, 2:5, 2:5] = 1
        truth[6:] = 2  # not annotated
        found = np.zeros_like(truth)
        found[5:, 2:5, 2:5] = 1  # right, and goes on
        found[2:4, 7:10, 7:10] = 1  # wrong, and larger than what is right among the annotated voxels
        write_scan(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", truth * np.uint8(100))
        write_scan(tmp_path / "labelsTr" / f"{name}.nii.gz", truth)
        write_scan(tmp_path / "oof" / f"{name}.nii.gz", found)
    described = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    dataset = read_dataset(tmp_path)
    predicted = [Predicted(case=each, fold=0, path=tmp_path / "oof" / f"{each.id}.nii.gz") for each in dataset.cases]
    choice = choose_rules(dataset, predicted, lambda line: None)
    (rule,) = choice.rules
    assert rule.smallest == 300.0  # the wrong one has 216 mm³, the right one 756, of which 108 are annotated
    assert choice.before == {"x": pytest.approx(2 * 9 / (9 + 18 + 9))}
    assert choice.after == {"x": 1.0}
    masked, reference = predicted[0].read(dataset)  # what is scored
    assert not masked.array[6:].any()
    assert not reference.array[6:].any()


# ---------------------------------------------------------------------------------------------- the whole path


def write_cases(folder):
    for number, name in enumerate(CASES):
        rng = np.random.default_rng(number)
        label = np.zeros((16, 16, 16), np.uint8)
        label[3:11, 4 + number % 3 : 12 + number % 3, 4:12] = 1
        scan = (rng.normal(100, 30, label.shape).clip(0, 400) + 500.0 * label).astype(np.uint16)
        write_scan(folder / "imagesTr" / f"{name}_0000.nii.gz", scan)
        write_scan(folder / "labelsTr" / f"{name}.nii.gz", label)
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "block": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def write_plan(data, path):
    plan = train(data, path.parent / "planned", plan_only=True, device="cpu").plan
    return plan.with_changes(
        encoder="resnet10", encoder_depth=1, decoder_filters=(4,), strides=(2, 1, 1, 1, 1), patch_size=(8, 8, 8),
        batch_size=2, steps=6, warmup_steps=1, validation_interval=3, checkpoint_interval=2, augmentation="light",
    ).save(path)  # fmt: skip


def contents(run):
    """What must not depend on kills: tensors and cards of all folds, metrics without seconds, scores, label maps."""
    found = {}
    for fold in range(3):
        model = run / f"fold_{fold}" / "model.safetensors"
        found[f"card {fold}"] = read_header(model).metadata
        found[f"model {fold}"] = {name: tensor.tobytes() for name, tensor in load_file(model).items()}
        with (run / f"fold_{fold}" / "metrics.csv").open() as file:
            found[f"metrics {fold}"] = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    for name in ("cross_validation.json", "cross_validation.csv", "folds.json", "plan.yaml"):
        found[name] = (run / name).read_text()
    for name in CASES:
        found[f"map {name}"] = read_label_map(run / "out_of_fold" / f"{name}.nii.gz").array.tobytes()
    return found


KILLED = """
import os, signal, sys
from resvox.training import steps
from resvox.workflow import train
from resvox.workflow.folds import run as folds_run
from resvox.workflow.folds import out_of_fold, training

data, plan, run = sys.argv[1:]
moments = [(steps, "save_checkpoint", 2), (training, "train_fold", 2), (out_of_fold, "_predicted", 2),
           (folds_run, "_write_rules", 2)]
for number, (module, name, count) in enumerate(moments):
    child = os.fork()
    if child == 0:
        inner, left = getattr(module, name), [count]
        def counted(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **options)
        setattr(module, name, counted)
        train(data, run, plan=plan, folds=3, device="cpu", progress=False, resume=number > 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, name
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cross-validation that ran undisturbed, and the plan of it."""
    folder = tmp_path_factory.mktemp("folds")
    data = write_cases(folder / "data")
    plan = write_plan(data, folder / "plan.yaml")
    result = train(data, folder / "run", plan=plan, folds=3, device="cpu", progress=False)
    return SimpleNamespace(data=data, plan=plan, run=folder / "run", result=result)


def test_folds_give_scores_of_every_case_and_an_ensemble_that_predicts(whole, tmp_path):
    result = whole.result.folds
    assert whole.result.fit is None
    assert sorted(result.scores.scores) == list(CASES)
    assert set(result.by_fold) == {0, 1, 2}
    written = json.loads((whole.run / "cross_validation.json").read_text())
    assert written["cases"] == dict(result.folds.cases)
    rows = list(csv.DictReader((whole.run / "cross_validation.csv").open()))
    assert [(row["case"], int(row["fold"])) for row in rows] == [(name, written["cases"][name]) for name in CASES]
    assert float(rows[0]["dice"]) == written["scores"]["a"]["block"]["dice"]
    for name in CASES:  # by the fold that did not see it
        lines = [json.loads(each) for each in (whole.run / "out_of_fold" / "predict.jsonl").read_text().splitlines()]
        (line,) = [each for each in lines if each["case"] == name]
        assert Path(line["model"]["path"]).parent.name == f"fold_{written['cases'][name]}"
    predicted = predict(whole.run, whole.data / "imagesTr" / "a_0000.nii.gz", tmp_path / "out", device="cpu")
    assert predicted.ok
    line = json.loads((tmp_path / "out" / "predict.jsonl").read_text())
    assert len(line["options"]["also"]) == 2  # two folds beside the first


def test_a_cross_validation_killed_between_and_within_folds_ends_as_an_undisturbed_one(whole, tmp_path):
    """Killed within a fold, before the next one, while cases are predicted, and while cards are written."""
    script, run = tmp_path / "killed.py", tmp_path / "run"
    script.write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, whole.data, whole.plan, run], check=True, env=environment)
    assert not (run / "cross_validation.json").exists()
    train(whole.data, run, resume=True, device="cpu", progress=False)
    expected, found = contents(whole.run), contents(run)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_rules_in_the_card_are_applied_unless_they_are_switched_off(whole, tmp_path):
    from resvox.weights import load_model, save_model

    source = whole.run / "fold_0" / "model.safetensors"
    metadata = dict(read_header(source).metadata)
    rule = {"values": [1], "smallest": 1e9}  # larger than any scan
    model = save_model(load_model(source), tmp_path / "m.safetensors", metadata={**metadata, "postprocessing": [rule]})
    scan = whole.data / "imagesTr" / "a_0000.nii.gz"
    for name, choice, empty in (("on", None, True), ("off", False, False)):
        predict(model, scan, tmp_path / name, device="cpu", postprocess=choice)
        array = read_label_map(tmp_path / name / "a.nii.gz").array
        plain = read_label_map(whole.run / "out_of_fold" / "a.nii.gz").array
        assert (not array.any()) == (empty or not plain.any())
    specks = Volume(np.ones((3, 3), np.uint8), spacing_mm=(1, 1))
    assert not apply_rules(specks, [LabelRule(values=(1,), smallest=10)]).array.any()


def test_a_folder_with_folds_is_used_again_only_as_it_was(whole, tmp_path):
    data, run, plan = whole.data, whole.run, whole.plan
    with pytest.raises(PlanError, match=r"holds a cross-validation with 3 folds.*--folds 3 --resume"):
        train(data, run, plan=plan, progress=False)
    with pytest.raises(PlanError, match=r"holds a cross-validation already.*--resume"):
        train(data, run, plan=plan, folds=3, progress=False)
    with pytest.raises(PlanError, match=r"2 folds in a folder with 3"):
        train(data, run, resume=True, folds=2, progress=False)
    with pytest.raises(PlanError, match=r"cases of the folds have changed"):
        train(data, run, resume=True, seed=5, progress=False)
    with pytest.raises(PlanError, match=r"without their number.*--folds 5"):
        train(data, tmp_path / "new", fold=1, progress=False)
    with pytest.raises(PlanError, match=r"fold=3 of 3 folds.*0 to 2"):
        train(data, tmp_path / "new", folds=3, fold=3, plan=plan, progress=False)
    with pytest.raises(PlanError, match="folds=1"):
        TrainOptions(folds=1)


def test_one_fold_alone_leaves_the_others_for_later(whole, tmp_path):
    run = tmp_path / "run"
    result = train(whole.data, run, plan=whole.plan, folds=3, fold=1, device="cpu", progress=False).folds
    assert (result.left, result.scores) == ((0, 2), None)
    assert sorted(result.validated) == [1]
    assert (run / "fold_1" / "model.safetensors").is_file()
    assert not (run / "fold_0").exists()


def test_the_dataset_of_a_fold_keeps_test_cases_and_names_its_reason(whole):
    dataset = read_dataset(whole.data)
    first = dataclasses.replace(dataset.cases[0], split="test")
    dataset = dataclasses.replace(dataset, cases=(first, *dataset.cases[1:]))
    folds = assign_folds(dataset.cases, 2, seed=0)
    split = dataset_of_fold(dataset, folds, 1).split()
    assert {each.id for each in split.validation} == {name for name, fold in folds.items() if fold == 1}
    assert first.id not in {each.id for each in (*split.train, *split.validation)}
    assert split.reason == "fold 1 of 2 validates"


def test_ids_of_manifests_become_names_of_files():
    assert file_name("case_01.b") == "case_01.b"
    assert "/" not in file_name("a/b")
    assert file_name("a/b") != file_name("a_b") != file_name("a:b")


@pytest.mark.slow
def test_folds_at_once_equal_one_after_the_other(whole, tmp_path):
    run = tmp_path / "run"
    train(whole.data, run, plan=whole.plan, folds=3, folds_at_once=3, device="cpu", progress=False)
    expected, found = contents(whole.run), contents(run)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert (run / "fold_2" / "train.log").is_file()


def test_predictions_without_doubt_or_of_older_weights_are_made_again(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole.run, run)
    log = run / "out_of_fold" / "predict.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["case"] == "a":
            del line["doubt"]  # as after a kill between the label map and its line
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder, folds = FoldsFolder(run), FoldsFolder(run).read()
    predicted = predict_out_of_fold(read_dataset(whole.data), folder, folds, TrainOptions(device="cpu"), str)
    assert [each.case.id for each in predicted] == list(CASES)
    assert set(doubts_of(folder, folds)) == set(CASES)
    forget_fold(folder, folds, folds.cases["a"])
    left = {path.name for path in folder.predictions.glob("?.nii.gz")}
    assert left == {f"{case}.nii.gz" for case in CASES if folds.cases[case] != folds.cases["a"]}


def test_the_doubt_of_each_case_is_scored(whole):
    found = json.loads((whole.run / "cross_validation.json").read_text())["doubt"]
    assert len(found["risk_coverage"]) == len(CASES)
    assert found["least_area"] <= found["area"] <= 1
    assert (whole.run / "fold_0" / "report.html").is_file()
