"""Fields of a plan that change how is learned: what they do to a run, and that a killed run goes on with equal bits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training.classified import write_npz

import resvox
from resvox.errors import PlanError
from resvox.training import (
    draw_classification_plan,
    fit,
    profiling,
    read_classification,
    read_dataset,
    take_classification_facts,
)
from resvox.training import steps as training_steps
from resvox.training.checkpoints import load_checkpoint
from resvox.training.losses import SegmentationLoss
from resvox.training.plans.options import TrainOptions
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.task import Segmentation
from resvox.training.task import ValidationResult
from resvox.training.tasks import fields_for


@pytest.fixture
def dataset(folder_of):
    return read_dataset(folder_of())


class StopError(Exception):
    pass


def stop_at(step):
    def on_step(report):
        if report.step == step:
            raise StopError

    return on_step


def numbers(rows):
    return [{name: value for name, value in row.items() if name != "seconds" and value is not None} for row in rows]


def same_tensors(one, other):
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def weights_of(result):
    return dict(resvox.load_model(result.model_path).state_dict())


OPTIONS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-2, "decay": "poly", "momentum": 0.99},
    "cosine": {"decay": "cosine"},
    "levels": {"deep_supervision": True, "drops_coarsest_level": True, "encoder_depth": 3,
               "decoder_filters": (8, 8, 8)},
    "average": {"ema_decay": 0.7},
    "augmentation": {"augmentation": "nnunet", "mirror_axes": (0, 1, 2)},
    "sampling": {"foreground_fraction": 0.33, "foreground_order": "last", "foreground_by": "label"},
    "loss": {"batch_dice": False, "label_smoothing": 0.1},
}  # fmt: skip
ALL = {name: value for fields in OPTIONS.values() for name, value in fields.items()}


@pytest.mark.parametrize("fields", [*OPTIONS.values(), ALL], ids=[*OPTIONS, "all"])
def test_a_killed_run_goes_on_with_equal_bits(fields, dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(**fields)
    whole = fit(dataset, plan, tmp_path / "whole", progress=False)
    # stopped past the checkpoint of step 4
    with pytest.raises(StopError):
        fit(dataset, plan, tmp_path / "run", on_step=stop_at(6), progress=False)
    resumed = fit(dataset, plan, tmp_path / "run", resume=True, progress=False)
    assert numbers(resumed.history) == numbers(whole.history)
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(tmp_path / run / "checkpoints" / name) for run in ("whole", "run"))
        assert same_tensors(one["model"], other["model"])
        assert ("average" in one) == (name == "last.pt" and "ema_decay" in fields)
        if "average" in one:
            assert same_tensors(one["average"], other["average"])
    assert same_tensors(weights_of(whole), weights_of(resumed))
    plain = fit(dataset, tiny_plan, tmp_path / "plain", progress=False)
    assert not same_tensors(weights_of(plain), weights_of(whole))  # the fields change something


def test_a_run_that_drops_channels_goes_on_with_equal_bits(folder_of, image_writer, scan_maker, tiny_plan, tmp_path):
    folder = folder_of()
    for seed, name in enumerate("ab"):
        image_writer(folder / f"imagesTr/{name}_0001.nii.gz", scan_maker(seed + 5, (16, 16, 16))[0], (2.0, 1.0, 1.0))
    described = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**described, "channel_names": {"0": "CT", "1": "MR"}}))
    dataset, normalization = read_dataset(folder), ({"kind": "zscore"},) * 2
    kept = tiny_plan.with_changes(in_channels=2, normalization=normalization)
    plan = kept.with_changes(channel_dropout=0.5)
    whole = fit(dataset, plan, tmp_path / "whole", progress=False)
    with pytest.raises(StopError):
        fit(dataset, plan, tmp_path / "run", on_step=stop_at(6), progress=False)
    resumed = fit(dataset, plan, tmp_path / "run", resume=True, progress=False)
    assert numbers(resumed.history) == numbers(whole.history)
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(tmp_path / run / "checkpoints" / name) for run in ("whole", "run"))
        assert same_tensors(one["model"], other["model"])
    plain = fit(dataset, kept, tmp_path / "plain", progress=False)
    assert not same_tensors(weights_of(plain), weights_of(whole))


def test_a_profile_says_where_the_time_went(dataset, tiny_plan, tmp_path, monkeypatch):
    """By a clock that only the work itself moves: each kind of work by another power of ten."""
    now = [0.0]
    monkeypatch.setattr(profiling, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def taking(seconds, owner, name):
        plain = getattr(owner, name)

        def slow(*arguments, **options):
            now[0] += seconds
            return plain(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    taking(1, PatchSampler, "__getitem__")
    taking(10, SegmentationLoss, "forward")
    taking(100, torch.Tensor, "backward")
    taking(1000, torch.optim.AdamW, "step")
    taking(10_000, Segmentation, "validate")
    taking(100_000, training_steps, "save_checkpoint")
    profile = fit(dataset, tiny_plan, tmp_path / "run", profile=True, progress=False).profile
    steps, samples, validations = 8, 16, 2
    assert profile.steps == steps
    best = (profile.seconds["validation"] - 10_000 * validations) / 100_000  # checkpoints of the best weights
    assert best in (1, 2)
    assert profile.seconds == {
        "data": samples, "forward": 10 * steps, "backward": 100 * steps, "optimizer": 1000 * steps,
        "validation": 10_000 * validations + 100_000 * best, "other": 100_000 * 2,
    }  # fmt: skip
    assert profile.total == sum(profile.seconds.values())
    assert profile.data_share == pytest.approx(samples / (samples + 1110 * steps))
    stored = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert stored["seconds"] == profile.seconds
    assert fit(dataset, tiny_plan, tmp_path / "unmeasured", progress=False).profile is None


def test_what_is_validated_and_saved_is_the_average(dataset, tiny_plan, tmp_path, monkeypatch):
    seen = []

    def validate(self, cases, job, state):
        seen.append({name: tensor.clone() for name, tensor in state.module.state_dict().items()})
        return ValidationResult(score=float(len(seen)), columns={"dice_mean": float(len(seen))})

    monkeypatch.setattr(Segmentation, "validate", validate)
    plan = tiny_plan.with_changes(ema_decay=0.9)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    last = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert same_tensors(last["average"], seen[-1])
    assert not same_tensors(last["model"], seen[-1])
    assert same_tensors(weights_of(result), seen[-1])
    # the weights that learn are those of a run without an average
    plain = fit(dataset, tiny_plan, tmp_path / "plain", progress=False)
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in result.history]
    assert same_tensors(load_checkpoint(tmp_path / "plain/checkpoints/last.pt")["model"], last["model"])


def test_a_checkpoint_amid_a_validation_holds_the_trained_weights_and_not_their_average(
    dataset, tiny_plan, tmp_path, monkeypatch
):
    """The thread that watches other machines writes it, whatever the main thread is doing."""
    kept = []

    def validate(self, cases, job, state):
        state.peers.keep()
        kept.append(load_checkpoint(job.run.last))
        return ValidationResult(score=1.0, columns={"dice_mean": 1.0})

    monkeypatch.setattr(Segmentation, "validate", validate)
    plan = tiny_plan.with_changes(ema_decay=0.9)
    fit(dataset, plan, tmp_path / "run", progress=False)
    after = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert kept[-1]["progress"].step == after["progress"].step == 8
    assert same_tensors(kept[-1]["average"], after["average"])
    assert same_tensors(kept[-1]["model"], after["model"])


def test_without_a_score_the_model_is_the_average_too(dataset, tiny_plan, tmp_path, monkeypatch):
    nothing = ValidationResult(score=None, columns={"dice_mean": None})
    monkeypatch.setattr(Segmentation, "validate", lambda self, cases, job, state: nothing)
    result = fit(dataset, tiny_plan.with_changes(ema_decay=0.9), tmp_path / "run", progress=False)
    average = load_checkpoint(tmp_path / "run/checkpoints/last.pt")["average"]
    assert same_tensors(weights_of(result), average)


def test_finishing_a_stopped_run_saves_its_average(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(ema_decay=0.9, validation_interval=8)
    with pytest.raises(StopError):
        fit(dataset, plan, tmp_path / "run", on_step=stop_at(6), progress=False)
    result = fit(dataset, plan, tmp_path / "run", finish=True, progress=False)
    average = load_checkpoint(tmp_path / "run/checkpoints/last.pt")["average"]
    assert same_tensors(weights_of(result), average)


def test_a_classifier_learns_with_smoothing_and_an_average_and_goes_on(tmp_path):
    shapes = read_classification(write_npz(tmp_path / "shapes.npz"))
    plan = draw_classification_plan(
        take_classification_facts(shapes), model="resnet10", device="cpu", batch_size=6, steps=6, warmup_steps=0,
        validation_interval=3, checkpoint_interval=3, label_smoothing=0.1, ema_decay=0.9, augmentation="nnunet",
        class_balance="sampling",
    )  # fmt: skip
    whole = fit(shapes, plan, tmp_path / "whole", progress=False)
    with pytest.raises(StopError):
        fit(shapes, plan, tmp_path / "run", on_step=stop_at(5), progress=False)
    resumed = fit(shapes, plan, tmp_path / "run", resume=True, progress=False)
    assert numbers(resumed.history) == numbers(whole.history)
    assert same_tensors(weights_of(whole), weights_of(resumed))
    assert math.isfinite(whole.best["log_loss"])


def test_options_become_fields_of_the_plan():
    options = TrainOptions(
        optimizer="sgd", schedule="cosine", deep_supervision=False, ema=0.99, augmentation="nnunet", oversample=0.33,
        batch_dice=False, label_smoothing=0.1, channel_dropout=0.2,
    )  # fmt: skip
    assert options.plan_fields() == {
        "optimizer": "sgd", "decay": "cosine", "deep_supervision": False, "ema_decay": 0.99, "augmentation": "nnunet",
        "foreground_fraction": 0.33, "batch_dice": False, "label_smoothing": 0.1, "channel_dropout": 0.2,
    }  # fmt: skip
    balance = [(True, None, "weights"), (None, True, "sampling"), (False, None, "none"), (False, True, "sampling")]
    for weights, balanced, expected in balance:
        fields = TrainOptions(class_weights=weights, balanced=balanced).plan_fields()
        assert fields == {"class_balance": expected}
    with pytest.raises(PlanError, match="class_weights and balanced at once"):
        replace(options, class_weights=True, balanced=True).plan_fields()


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("segmentation", {"balanced": True}, "class_balance='sampling' for a segmentation; expected a classification"),
        ("classification", {"deep_supervision": True}, "leave --deep-supervision out"),
        ("classification", {"batch_dice": False}, "leave --batch-dice out"),
        ("classification", {"oversample": 0.2}, "--balanced shows every class equally often"),
        ("regression", {"label_smoothing": 0.1}, "leave --label-smoothing out"),
        ("regression", {"oversample": 0.1}, "leave --oversample out"),
    ],
)
def test_options_of_another_task_are_refused_with_what_to_do(task, options, words):
    with pytest.raises(PlanError, match=words):
        fields_for(task, TrainOptions(**options).plan_fields())
