"""A classification in one process: what a run leaves behind, that it learns, and that a resume goes on."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from training.classified import write_npz

import resvox
from resvox.errors import PlanError, UnknownModelError
from resvox.training import draw_classification_plan, fit, read_classification, take_classification_facts
from resvox.training.checkpoints import load_checkpoint
from resvox.training.classification.task import Classification
from resvox.training.logs import read_metrics
from resvox.training.task import Cases
from resvox.weights import read_header

SCORES = ["accuracy", "balanced_accuracy", "auc", "log_loss", "recall_0", "recall_1", "recall_2"]


@pytest.fixture
def shapes(tmp_path):
    return read_classification(write_npz(tmp_path / "shapes.npz"))


def tiny(dataset, **changes):
    """Six steps of the smallest network of the catalog."""
    options = {
        "model": "resnet10", "device": "cpu", "batch_size": 6, "steps": 6, "validation_interval": 3,
        "checkpoint_interval": 3, "warmup_steps": 0, **changes,
    }  # fmt: skip
    return draw_classification_plan(take_classification_facts(dataset), **options)


class StopError(Exception):
    pass


def stop_at(step):
    def on_step(report):
        if report.step == step:
            raise StopError

    return on_step


def test_a_run_leaves_what_it_promises(shapes, tmp_path):
    plan = tiny(shapes)
    result = fit(shapes, plan, tmp_path / "run", progress=False)
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "learning_rate", "seconds", *SCORES]
    assert [bool(row["accuracy"]) for row in rows] == [False, False, True, False, False, True]
    metadata = read_header(result.model_path).metadata
    assert metadata["task"] == "classification"
    assert metadata["labels"] == {"0": 0, "1": 1, "2": 2}
    assert metadata["inference"] == {"image_size": [8, 8], "fit": "resize", "batch_size": 6}
    assert metadata["preprocessing"] == plan.preprocessing().to_dict()
    assert metadata["training"]["scores"] == result.best
    assert metadata["training"]["cases"] == {"0": 8, "1": 8, "2": 8}
    model = resvox.load_model(result.model_path)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert type(plan).load(tmp_path / "run/plan.yaml") == plan


def test_training_learns(tmp_path):
    dataset = read_classification(write_npz(tmp_path / "shapes.npz", counts=(16, 16)))
    plan = tiny(dataset, steps=16, validation_interval=4, checkpoint_interval=16, augmentation="none")
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    validated = [row for row in result.history if row.get("log_loss") is not None]
    kept = max(validated, key=lambda row: (row["balanced_accuracy"], -row["log_loss"]))
    assert result.best["log_loss"] == kept["log_loss"]
    assert result.best_score == result.best["balanced_accuracy"] > 0.85
    assert result.best["auc"] > 0.9


def test_resume_goes_on_as_if_nothing_had_happened(shapes, tmp_path):
    plan = tiny(shapes, augmentation="default", class_balance="sampling")
    whole = fit(shapes, plan, tmp_path / "whole", progress=False)
    with pytest.raises(StopError):
        fit(shapes, plan, tmp_path / "run", on_step=stop_at(5), progress=False)
    resumed = fit(shapes, plan, tmp_path / "run", resume=True, progress=False)
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == [1, 2, 3, 4, 5, 6]
    for one, other in zip(resumed.history, whole.history, strict=True):
        for name in ("loss", "accuracy", "log_loss"):
            assert (one.get(name) is None) == (other.get(name) is None)
            assert one.get(name) is None or one[name] == pytest.approx(other[name], rel=1e-4)
    for name, tensor in load_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"].items():
        other = load_checkpoint(tmp_path / "whole/checkpoints/last.pt")["model"][name]
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5)


def test_volumes_train_too(tmp_path):
    dataset = read_classification(write_npz(tmp_path / "v.npz", counts=(4, 4), volumes=True))
    plan = tiny(dataset, steps=1, batch_size=2, norm="instance")
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    assert plan.image_size == (8, 8, 8)
    assert resvox.load_model(result.model_path)(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2)


def test_what_does_not_fit_is_refused_before_anything_is_written(shapes, tmp_path):
    plan = tiny(shapes)
    for changes, error, words in (
        ({"num_classes": 4}, PlanError, "num_classes=4 in the plan; expected 3"),
        ({"model": "unet"}, PlanError, "model='unet', which is for segmentation; expected a model for classification"),
        ({"model": "resnet19"}, UnknownModelError, "unknown model 'resnet19'"),
    ):
        if changes.get("model") == "unet":
            changes = {**changes, "stem": None}
        with pytest.raises(error, match=words):
            fit(shapes, plan.with_changes(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Seen:
    """As much of a prepared image as the loss looks at."""

    def __init__(self, label):
        self.label = label


class Given:
    def __init__(self, plan):
        self.plan = plan


def test_weights_make_every_class_count_alike(shapes):
    plan = tiny(shapes, class_balance="weights")
    cases = Cases(train=[Seen(label) for label in (0, 0, 0, 0, 1, 2)], validation=[])
    weight = Classification().loss(cases, Given(plan)).single.weight
    np.testing.assert_allclose(weight.numpy() * np.array([4, 1, 1]), [2, 2, 2])
    assert Classification().loss(cases, Given(plan.with_changes(class_balance="none"))).single.weight is None
