"""Folds that are trained one per job: what a job may remove, what it checks first, and what it leaves to others."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import resvox.training
import resvox.workflow.folds.run as folds_run
import resvox.workflow.folds.training as folds_training
from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.errors import DatasetError, PlanError
from resvox.locks import Claims
from resvox.training import Plan
from resvox.training.run_folder import LOCK
from resvox.workflow import TrainOptions
from resvox.workflow.folds.folder import Folds, FoldsFolder
from resvox.workflow.train import _written_plan

FOLDS = Folds(count=3, cases={"a": 0, "b": 1, "c": 2})


@pytest.fixture
def run(tmp_path):
    """A cross-validation of three folds, of which each has left something."""
    folder = FoldsFolder(tmp_path / "run")
    for fold in range(3):
        own = folder.run(fold)
        for path in (own.last, own.metrics):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("left")
    for path in (folder.json, folder.csv, *(folder.predictions / f"{case}.nii.gz" for case in FOLDS.cases)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("left")
    folder.description.write_text(json.dumps(FOLDS.to_dict()))
    Plan(num_classes=2).save(folder.plan)
    return folder


def used(folder):
    return [fold for fold in range(3) if folder.run(fold).is_used]


def job_of(folder, options):
    return folds_training.FoldsJob(
        dataset=SimpleNamespace(cases=()), plan=None, folder=folder, folds=FOLDS, options=options, colours={}
    )


def test_one_fold_begins_again_and_the_others_stay(run, monkeypatch):
    options = TrainOptions(folds=3, fold=1, overwrite=True)
    run.begin(FOLDS, options)
    assert used(run) == [0, 2]
    assert not run.json.exists()
    assert not run.csv.exists()
    trained = []
    monkeypatch.setattr(folds_training, "train_fold", lambda job, fold: trained.append(fold))
    folds_training.train_folds(job_of(run, options), str)
    assert trained == [1]
    assert sorted(path.name for path in run.predictions.iterdir()) == ["a.nii.gz", "c.nii.gz"]
    assert _written_plan(options, run.path) == Plan.load(run.plan)  # that of the others


def test_all_folds_begin_again(run):
    options = TrainOptions(folds=3, overwrite=True)
    run.begin(FOLDS, options)
    assert used(run) == []
    assert not run.predictions.exists()
    assert _written_plan(options, run.path) is None


@pytest.mark.parametrize("fold", [1, None])
def test_a_fold_that_is_training_is_not_removed(run, fold):
    with Claims(run.run(1).path) as claims:
        assert claims.take(LOCK)
        with pytest.raises(PlanError, match="is training in this folder"):
            run.begin(FOLDS, TrainOptions(folds=3, fold=fold, overwrite=True))
    assert used(run) == [0, 1, 2]


def test_one_fold_does_not_begin_again_with_other_cases(run):
    moved = Folds(count=3, cases={"a": 1, "b": 0, "c": 2})
    with pytest.raises(PlanError, match="2 moved"):
        run.begin(moved, TrainOptions(folds=3, fold=1, overwrite=True))
    assert used(run) == [0, 1, 2]


# ------------------------------------------------------------------------------------------ before and after training


def classified(tmp_path, *, rare):
    """Six patients with a common class and, in some of them, a rare one."""
    labels = [(f"c{number}", "common", f"p{number}") for number in range(6)]
    labels += [(f"r{number}", "rare", group) for number, group in enumerate(rare)]
    cases = tuple(
        ImageCase(id=name, images=(Path("x.png"),), label=label, group=group) for name, label, group in labels
    )
    return ClassificationDataset(
        name="d", cases=cases, classes=("common", "rare"), channel_names=("gray",), spatial_dims=2, is_picture=True,
        source=tmp_path / "data",
    )  # fmt: skip


def cross_validate(tmp_path, monkeypatch, options, *, rare=("p0", "p1"), train=lambda job, say: None):
    plan = SimpleNamespace(task="classification", seed=0, validation_fraction=0.2, save=lambda path: path)
    monkeypatch.setattr(folds_run, "train_folds", train)
    monkeypatch.setattr(folds_run, "is_finished", lambda run, plan: False)
    monkeypatch.setattr(folds_run, "_title", lambda plan: "balanced accuracy")
    return folds_run.cross_validate(classified(tmp_path, rare=rare), plan, tmp_path / "run", options, say=str)


def test_a_class_of_one_patient_is_refused_before_any_fold_trains(tmp_path, monkeypatch):
    def never(job, say):
        raise AssertionError("a fold was trained")

    with pytest.raises(DatasetError, match=r"fold \d: no case to train on for rare.*cases of another patient"):
        cross_validate(tmp_path, monkeypatch, TrainOptions(folds=3), rare=("p0", "p0"), train=never)
    assert not (tmp_path / "run").exists()


def test_temporary_files_of_other_jobs_are_left_to_them(tmp_path, monkeypatch):
    written, old = (tmp_path / "run" / f".plan.{number * 8}.partial.yaml" for number in "01")
    for path in (written, old):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    os.utime(old, times=(time.time() - 7200,) * 2)
    cross_validate(tmp_path, monkeypatch, TrainOptions(folds=2, fold=0))
    assert written.exists()
    assert not old.exists()


@pytest.mark.parametrize(("fold", "left"), [(0, (1,)), (None, ())])
def test_a_fold_finished_early_leaves_the_others(tmp_path, monkeypatch, fold, left):
    found = cross_validate(tmp_path, monkeypatch, TrainOptions(folds=2, fold=fold, finish=True))
    assert found.left == left
    assert sorted(found.validated) == [each for each in range(2) if each not in left]


def test_folds_are_measured_where_that_is_asked_for(run, monkeypatch):
    import resvox.workflow.training_report.following as following

    given = {}
    monkeypatch.setattr(resvox.training, "fit", lambda *args, **options: given.update(options))
    monkeypatch.setattr(following, "report_of", lambda path: None)
    monkeypatch.setattr(folds_training, "dataset_of_fold", lambda *args: None)
    folds_training.train_fold(job_of(run, TrainOptions(folds=3, profile=True)), 0)
    assert given["profile"] is True
