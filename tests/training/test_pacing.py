"""Runs of limited time: where they are in their plan, and when they validate. And cuts that are augmented elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training.classified import write_npz

from resvox.errors import PlanError
from resvox.training import draw_classification_plan, fit, read_classification, read_dataset, take_classification_facts
from resvox.training import steps as training_steps
from resvox.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from resvox.training.optimization.pacing import FIRST, TRAINING_PER_VALIDATION, ValidationTimes, place_in_plan
from resvox.training.optimization.schedule import learning_rate
from resvox.training.plans.fields import AUGMENT_ON
from resvox.training.plans.options import TrainOptions
from resvox.training.processes import augments_on_device, choose_workers
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.task import Segmentation
from resvox.training.task import ValidationResult


@pytest.fixture
def dataset(folder_of):
    return read_dataset(folder_of())


@pytest.fixture
def plan(tiny_plan):
    return tiny_plan.with_changes(steps=1000, warmup_steps=25, validation_interval=100)


def test_without_a_limit_of_time_the_place_in_the_plan_is_the_step(plan):
    assert place_in_plan(plan, 12, 1e6) == 12


@pytest.mark.parametrize(("step", "seconds", "place"), [(10, 0, 10), (10, 60, 500), (800, 60, 800), (10, 500, 1000)])
def test_with_a_limit_the_place_follows_the_time(plan, step, seconds, place):
    assert place_in_plan(plan.with_changes(max_minutes=2.0), step, seconds) == place


def test_the_learning_rate_of_a_slow_run_ends_where_the_plan_ends(plan):
    limited = plan.with_changes(max_minutes=1.0)
    rates = [learning_rate(limited, place_in_plan(limited, step, 6.0 * step)) for step in range(11)]
    assert rates[0] == plan.learning_rate / 25
    assert rates[1] == pytest.approx(plan.learning_rate, rel=0.1)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == 0


def test_the_warm_up_never_exceeds_the_highest_rate(plan):
    assert learning_rate(plan, 24.9) == plan.learning_rate


def test_without_a_limit_validations_come_every_interval(plan):
    times = ValidationTimes()
    assert [step for step in range(1, 401) if times.is_due(plan, step, 1e9)] == [100, 200, 300, 400]


def test_with_a_limit_a_validation_waits_until_training_took_several_times_as_long(plan):
    limited = plan.with_changes(max_minutes=10.0)
    times, began = ValidationTimes(), []
    seconds, takes = 0.0, 20.0
    while seconds < 600:
        seconds += 1
        if times.is_due(limited, int(seconds), seconds):
            began.append(seconds)
            times.note(int(seconds), began=seconds, took=takes, ended=seconds + takes)
            seconds += takes
    assert began[0] == pytest.approx(TRAINING_PER_VALIDATION * FIRST * 600, abs=1)
    gaps = np.diff(began) - takes
    assert len(gaps) >= 1
    assert (gaps >= TRAINING_PER_VALIDATION * takes).all()


@pytest.mark.parametrize("version", ["now", "older"])
def test_a_run_with_more_time_than_before_validates_at_the_places_of_its_new_plan(plan, version):
    """After 9 of 10 minutes it was at 900 of 1000 steps; of 100 minutes that is step 90."""
    if version == "now":
        before = ValidationTimes()
        before.note(80, began=540.0, took=5.0, ended=545.0)
        times = ValidationTimes(**vars(before))  # through a checkpoint
        assert not times.is_due(plan.with_changes(max_minutes=10.0), 85, 599.0)
    else:
        times = ValidationTimes(place=900.0, ended=545.0, took=5.0)
    longer = plan.with_changes(max_minutes=100.0)
    assert [times.is_due(longer, 90, seconds) for seconds in (550.0, 599.0, 601.0)] == [False, False, True]


def test_the_place_that_an_older_checkpoint_holds_counts_where_the_time_is_the_same(plan):
    times = ValidationTimes(place=850.0, ended=515.0, took=2.0)
    assert [times.is_due(plan.with_changes(max_minutes=10.0), 90, s) for s in (538.0, 541.0)] == [False, True]


def test_a_resumed_run_of_limited_time_validates_when_it_would_have(dataset, tiny_plan, tmp_path, monkeypatch):
    """By a clock that steps and validations move."""
    now = [0.0]
    monkeypatch.setattr(training_steps, "time", SimpleNamespace(monotonic=lambda: now[0]))
    validated = []

    def validate(self, cases, job, state):
        now[0] += 10
        validated.append(state.progress.step)
        return ValidationResult(score=1.0, columns={"dice_mean": 1.0})

    def cut(self, number):
        now[0] += 10
        return plain(self, number)

    def kill(report):
        if report.step == 9:
            raise ZeroDivisionError

    plain = PatchSampler.__getitem__
    monkeypatch.setattr(PatchSampler, "__getitem__", cut)

    monkeypatch.setattr(Segmentation, "validate", validate)
    plan = tiny_plan.with_changes(steps=20, max_minutes=10.0, validation_interval=1, checkpoint_interval=1)
    fit(dataset, plan, tmp_path / "whole", progress=False)
    whole, validated[:] = list(validated), []
    assert len(whole) > 2
    assert whole[0] < 9 < whole[1]
    with pytest.raises(ZeroDivisionError):
        fit(dataset, plan, tmp_path / "parts", on_step=kill, progress=False)
    fit(dataset, plan, tmp_path / "parts", progress=False, resume=True)
    assert validated == whole


def test_a_checkpoint_of_before_the_times_of_validations_were_kept_is_read(tmp_path):
    progress = Progress(step=3)
    del progress.validations
    save_checkpoint(tmp_path / "last.pt", plan={}, progress=progress, model={})
    assert load_checkpoint(tmp_path / "last.pt")["progress"] == Progress(step=3)


def test_cuts_augmented_on_the_device_train_to_the_same_weights(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(augmentation="nnunet")
    losses = {}
    for where, workers in (("processor", 0), ("device", 0), ("device", 1)):
        run = tmp_path / f"{where}{workers}"
        result = fit(dataset, plan, run, accelerator="cpu", augment_on=where, workers=workers, progress=False)
        losses[run.name] = [row["loss"] for row in result.history]
    assert losses["processor0"] == losses["device0"] == losses["device1"]


@pytest.mark.parametrize(
    ("choice", "device", "size", "wanted"),
    [
        ("auto", "cuda", (64, 64, 64), True),
        ("auto", "cuda", (16, 16, 16), False),
        ("auto", "cpu", (64, 64, 64), False),
        ("processor", "cuda", (64, 64, 64), False),
        ("device", "cpu", (16, 16, 16), True),
    ],
    ids=["large on a GPU", "small on a GPU", "on a processor", "asked for", "asked for the device"],
)
def test_where_patches_are_augmented(tiny_plan, choice, device, size, wanted):
    plan = tiny_plan.with_changes(patch_size=size)
    assert augments_on_device(choice, plan, device) is wanted


def test_an_unknown_place_is_refused(tiny_plan):
    with pytest.raises(PlanError, match=f"augment_on='moon'; expected one of {', '.join(AUGMENT_ON)}"):
        augments_on_device("moon", tiny_plan, "cpu")


def test_a_task_that_cannot_augment_on_the_device_refuses_it(tmp_path):
    shapes = read_classification(write_npz(tmp_path / "shapes.npz"))
    facts = take_classification_facts(shapes)
    plan = draw_classification_plan(facts, model="resnet10", device="cpu", batch_size=6, steps=2, warmup_steps=0)
    with pytest.raises(PlanError, match=r"augment_on='device' for a classification; .*leave --augment-on out"):
        fit(shapes, plan, tmp_path / "run", accelerator="cpu", augment_on="device", progress=False)
    with pytest.raises(PlanError, match="augment_on='moon'"):
        fit(shapes, plan, tmp_path / "run", accelerator="cpu", augment_on="moon", progress=False)
    with pytest.raises(PlanError, match="augment_on='moon'"):
        TrainOptions(augment_on="moon")


def test_a_gpu_has_workers_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert choose_workers(None, processes=1, is_cuda=True) == 5
    assert choose_workers(None, processes=1, is_cuda=False) == 0
    assert choose_workers(0, processes=1, is_cuda=True) == 0


def test_a_batch_of_cuts_is_on_the_device_that_it_was_sent_to(dataset, tiny_plan, tmp_path):
    from resvox.training.batches import Cut, CutBatch, collate_cuts
    from resvox.training.segmentation.cache import prepare_cases

    cases = prepare_cases(dataset.cases, dataset, tiny_plan.preparation(), tmp_path)
    here = torch.device("cpu")
    later, now = PatchSampler(cases, tiny_plan, device=here), PatchSampler(cases, tiny_plan)
    cuts = [later[number] for number in range(4)]
    assert all(isinstance(cut, Cut) for cut in cuts)
    batch = collate_cuts(cuts)
    assert isinstance(batch, CutBatch)
    made = batch.on(here, later)
    assert torch.equal(made.image, torch.stack([now[number].image for number in range(4)]))
    assert made.numbers == (0, 1, 2, 3)
