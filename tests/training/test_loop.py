"""The loop in one process: what a run leaves behind, what it refuses, how it stops and goes on."""

from __future__ import annotations

import csv
import io
import math
import signal
import threading
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.multiprocessing import ProcessRaisedException

import resvox
from resvox.errors import DatasetError, PlanError, ResvoxError
from resvox.training import bfloat16, fit, read_dataset
from resvox.training.checkpoints import load_checkpoint, save_checkpoint
from resvox.training.distributed.launching import _original
from resvox.training.logs import ProgressDisplay, read_metrics
from resvox.training.loop import build_model
from resvox.training.plans.precision import Precision
from resvox.training.randomness import Purpose, seed_number
from resvox.training.run_folder import RunFolder
from resvox.training.segmentation.task import Segmentation
from resvox.training.segmentation.validation import dice_per_class
from resvox.training.task import ValidationResult
from resvox.weights import read_header


@pytest.fixture
def dataset(folder_of):
    return read_dataset(folder_of())


def curve(result):
    return [(row["step"], row["loss"], row.get("dice_mean")) for row in result.history]


def close(one, other):
    assert [row[0] for row in one] == [row[0] for row in other]
    for (_, loss, dice), (_, other_loss, other_dice) in zip(one, other, strict=True):
        assert loss == pytest.approx(other_loss, rel=1e-5)
        assert (dice is None) == (other_dice is None)
        assert dice is None or dice == pytest.approx(other_dice, abs=1e-3)


class StopError(Exception):
    pass


def stop_at(step):
    def on_step(report):
        if report.step == step:
            raise StopError

    return on_step


def test_a_run_leaves_what_it_promises(dataset, tiny_plan, tmp_path):
    reports = []
    result = fit(dataset, tiny_plan, tmp_path / "run", on_step=reports.append, progress=False)
    assert [report.step for report in reports] == list(range(1, 9))
    assert [number for report in reports for number in report.numbers] == list(range(16))
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "step",
        "loss",
        "learning_rate",
        "seconds",
        "dice_mean",
        "dice_ball",
        "dice_box",
    ]
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 9)]
    assert [bool(row["dice_mean"]) for row in rows] == [False] * 3 + [True] + [False] * 3 + [True]
    assert result.history[-1]["loss"] == float(rows[-1]["loss"])
    assert tiny_plan == type(tiny_plan).load(tmp_path / "run/plan.yaml")
    assert list((tmp_path / "run/tensorboard").glob("events.*"))
    assert result.model_path == tmp_path / "run/model.safetensors"
    metadata = read_header(result.model_path).metadata
    assert metadata["labels"] == {"background": 0, "ball": 1, "box": 2}
    assert metadata["inference"] == {"roi_size": [8, 8, 8], "overlap": 0.5, "mirror_axes": []}
    assert metadata["channel_names"] == ["CT"]
    assert metadata["preprocessing"] == tiny_plan.preprocessing().to_dict()
    model = resvox.load_model(result.model_path)
    best = load_checkpoint(tmp_path / "run/checkpoints/best.pt")
    assert best["progress"].best_score == result.best_dice == result.best_score
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, best["model"][name])


def test_training_learns(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(
        steps=40, validation_interval=40, checkpoint_interval=40, learning_rate=1e-2, patch_size=(16, 16, 16)
    )
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    losses = [row["loss"] for row in result.history]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert result.history[-1]["dice_ball"] > 0.8


def test_resume_goes_on_as_if_nothing_had_happened(dataset, tiny_plan, tmp_path):
    seeds = {}
    whole = fit(
        dataset,
        tiny_plan,
        tmp_path / "whole",
        on_step=lambda report: seeds.update({report.step: torch.initial_seed()}),
        progress=False,
    )
    assert len(set(seeds.values())) == 8  # what dropout draws from: another seed each step
    # stopped at step 6, past the checkpoint of step 4 and rows 5 and 6 of metrics.csv
    with pytest.raises(StopError):
        fit(dataset, tiny_plan, tmp_path / "run", on_step=stop_at(6), progress=False)
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == [1, 2, 3, 4, 5, 6]
    resumed_seeds = {}
    resumed = fit(
        dataset,
        tiny_plan,
        tmp_path / "run",
        resume=True,
        on_step=lambda report: resumed_seeds.update({report.step: torch.initial_seed()}),
        progress=False,
    )
    close(curve(resumed), curve(whole))
    assert resumed_seeds == {step: seeds[step] for step in (5, 6, 7, 8)}
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == list(range(1, 9))
    for name, tensor in load_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"].items():
        other = load_checkpoint(tmp_path / "whole/checkpoints/last.pt")["model"][name]
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5)
    again = fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)  # nothing left to do
    close(curve(again), curve(whole))


def test_resume_before_the_first_checkpoint_begins(dataset, tiny_plan, tmp_path):
    with pytest.raises(StopError):
        fit(dataset, tiny_plan, tmp_path / "run", on_step=stop_at(2), progress=False)
    assert not (tmp_path / "run/checkpoints/last.pt").exists()
    result = fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    assert [row["step"] for row in result.history] == list(range(1, 9))


def test_a_used_folder_is_refused_unless_told(dataset, tiny_plan, tmp_path):
    short = tiny_plan.with_changes(steps=1)
    tiny_plan.save(tmp_path / "run/plan.yaml")  # a plan alone does not make a folder used
    fit(dataset, short, tmp_path / "run", progress=False)
    with pytest.raises(PlanError) as caught:
        fit(dataset, short, tmp_path / "run", progress=False)
    text = str(caught.value)
    assert "the folder holds a training run already" in text
    assert "--resume to go on with it, --overwrite to start again, or another folder" in text
    with pytest.raises(PlanError, match="both --resume and --overwrite"):
        fit(dataset, short, tmp_path / "run", resume=True, overwrite=True, progress=False)
    (tmp_path / "run/notes.txt").write_text("mine")
    result = fit(dataset, tiny_plan.with_changes(steps=2), tmp_path / "run", overwrite=True, progress=False)
    assert [row["step"] for row in result.history] == [1, 2]
    assert (tmp_path / "run/notes.txt").exists()


def test_a_changed_plan_is_refused_by_field(dataset, tiny_plan, tmp_path):
    with pytest.raises(StopError):
        fit(dataset, tiny_plan, tmp_path / "run", on_step=stop_at(5), progress=False)
    changed = tiny_plan.with_changes(learning_rate=0.5, seed=3, max_minutes=10)
    with pytest.raises(PlanError) as caught:
        fit(dataset, changed, tmp_path / "run", resume=True, progress=False)
    text = str(caught.value)
    assert "learning_rate 0.001 -> 0.5, seed 0 -> 3;" in text
    assert "max_minutes" not in text  # more time is no other training
    fit(dataset, tiny_plan.with_changes(max_minutes=10), tmp_path / "run", resume=True, progress=False)


def test_a_plan_of_other_data_is_refused(dataset, tiny_plan, tmp_path):
    with pytest.raises(PlanError, match="num_classes=7 in the plan; expected 3, as in the dataset"):
        fit(dataset, tiny_plan.with_changes(num_classes=7), tmp_path / "run")
    with pytest.raises(PlanError, match=r"batch_size=2 over 3 processes.*set batch_size to 3"):
        fit(dataset, tiny_plan, tmp_path / "run", devices=3, accelerator="cpu")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_names_step_and_cases(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(learning_rate=1e30, gradient_clip=0, optimizer="sgd")
    with pytest.raises(ResvoxError) as caught:
        fit(dataset, plan, tmp_path / "run", progress=False)
    text = str(caught.value)
    assert "the loss is nan at step" in text or "the loss is inf at step" in text
    assert "on patches of " in text
    assert "precision" in text


def test_ctrl_c_finishes_the_step_and_keeps_it(dataset, tiny_plan, tmp_path, capsys):
    def on_step(report):
        if report.step == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, tiny_plan, tmp_path / "run", on_step=on_step)
    assert signal.getsignal(signal.SIGINT) is before
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"].step == 3
    assert "stopped after step 3; go on with --resume" in capsys.readouterr().err
    result = fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    assert [row["step"] for row in result.history] == list(range(1, 9))


def test_a_budget_of_time_ends_with_a_validated_model(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(max_minutes=1e-6)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    assert [row["step"] for row in result.history] == [1]
    assert result.history[-1]["dice_mean"] is not None
    assert result.model_path.is_file()


def test_training_off_the_main_thread(dataset, tiny_plan, tmp_path):
    results = []
    plan = tiny_plan.with_changes(steps=1)
    thread = threading.Thread(target=lambda: results.append(fit(dataset, plan, tmp_path / "run", progress=False)))
    thread.start()
    thread.join()
    assert results[0].model_path.is_file()


def test_images_of_two_dimensions(image_writer, scan_maker, tiny_plan, tmp_path):
    rows = ["image,label"]
    for seed in range(2):
        scan, label = scan_maker(seed, (24, 20))
        scan = (scan.clip(0, 400) / 2).astype("uint8")
        image_writer(tmp_path / f"scan{seed}.png", scan, (1.0, 1.0))
        image_writer(tmp_path / f"mask{seed}.png", label, (1.0, 1.0))
        rows.append(f"scan{seed}.png,mask{seed}.png")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    plan = tiny_plan.with_changes(spatial_dims=2, patch_size=(8, 8), spacing_mm=None, steps=2, augmentation="default")
    result = fit(read_dataset(tmp_path / "cases.csv"), plan, tmp_path / "run", progress=False)
    assert math.isfinite(result.history[-1]["loss"])
    assert read_header(result.model_path).metadata["inference"]["roi_size"] == [8, 8]


def test_a_model_of_several_levels_learns_from_all_and_answers_with_one(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(deep_supervision=True, steps=2)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    assert math.isfinite(result.history[-1]["loss"])
    model = resvox.load_model(result.model_path)
    torch.manual_seed(seed_number(plan.seed, Purpose.WEIGHTS))  # as the run began
    start, trained = build_model(plan).state_dict(), model.state_dict()
    heads = [name for name in start if name.startswith("supervision.") and name.endswith("weight")]
    assert heads
    assert all(not torch.equal(trained[name], start[name]) for name in heads)
    assert isinstance(model(torch.zeros(1, 1, 8, 8, 8)), torch.Tensor)


def test_of_two_equal_scores_the_surer_one_is_kept(dataset, tiny_plan, tmp_path, monkeypatch):
    told = iter([(0.4, -1.0), (0.5, -2.0), (0.5, -1.5), (0.5, -3.0), (0.4, 0.0)])

    def validate(self, cases, job, state):
        score, tie = next(told)
        return ValidationResult(score=score, tie=tie, columns={"dice_mean": score})

    monkeypatch.setattr(Segmentation, "validate", validate)
    plan = tiny_plan.with_changes(steps=5, validation_interval=1)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    assert read_header(result.model_path).metadata["training"]["step"] == 3


TRANSFORMER = {"num_vit_layers": 1, "num_heads": 2, "num_queries": 4, "embed_dim": 8, "mlp_dim": 8, "image_size": 8}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("unet_plus_plus", {}),
        ("attention_unet", {}),
        ("trans_unet", TRANSFORMER),
        ("resenc_unet", {"features": (4, 4), "depths": (1, 1)}),
    ],
)
def test_other_models_of_the_catalog_train(dataset, tiny_plan, tmp_path, model, options):
    plan = tiny_plan.with_changes(
        model=model, encoder="resnet18vd", decoder_filters=(8, 8), steps=1, further_options=options
    )
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    assert read_header(result.model_path).blueprint.name == model


def test_models_that_are_none_are_refused_before_training(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(encoder="resnet18vd", decoder_filters=(8, 8), steps=1)
    wrong = {
        "resnet18": "model='resnet18', which is for classification; expected a model for segmentation",
        "unet3": "unknown model 'unet3'",
    }
    for name, words in wrong.items():
        with pytest.raises(ResvoxError, match=words):
            fit(dataset, plan.with_changes(model=name), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_plain_lines_where_no_terminal_listens(dataset, tiny_plan, tmp_path, capsys):
    fit(dataset, tiny_plan, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert any("cases to train 1, to validate 1" in line for line in lines)
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == ["step 4/8", "step 8/8"]


def test_checkpoints_hold_no_code_and_are_whole(tiny_plan, tmp_path, monkeypatch):
    from resvox.training.checkpoints import Progress

    path = tmp_path / "last.pt"
    save_checkpoint(path, plan=tiny_plan.to_dict(), progress=Progress(step=3), model={"w": torch.ones(2)})
    torch.load(path, weights_only=True)

    def half(content, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, plan=tiny_plan.to_dict(), progress=Progress(step=4), model={"w": torch.ones(2)})
    assert load_checkpoint(path)["progress"].step == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ResvoxError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"version": 2}, {"version": 2, "progress": {"stride": 1}, "plan": {}, "model": {}}, [1], {"version": 1}]
)
def test_other_contents_are_not_checkpoints(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ResvoxError, match=r"last\.pt: (not a readable checkpoint|a checkpoint of version)") as caught:
        load_checkpoint(tmp_path / "last.pt")
    assert "weights_only" not in str(caught.value)


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    run = RunFolder(tmp_path)
    run.last.parent.mkdir()
    (run.last.parent / ".last.pt.123.tmp").touch()
    run.tidy()
    assert list(run.last.parent.iterdir()) == []


def test_a_metrics_file_that_a_kill_cut_off(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n2,0.4\n3,0.")
    assert read_metrics(tmp_path / "metrics.csv") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}]


def test_dice_by_hand():
    import numpy as np

    reference = np.array([0, 0, 1, 1, 1, 2])
    prediction = np.array([0, 1, 1, 1, 0, 0])
    dice = dice_per_class(prediction, reference, 4)
    assert dice[:3] == pytest.approx([2 * 1 / (2 + 3), 2 * 2 / (3 + 3), 0.0])
    assert math.isnan(dice[3])


def test_an_error_in_a_spawned_process_is_still_one_line():
    told = "\n\n-- Process 1 terminated with the following error:\nTraceback ...\n"
    error = ProcessRaisedException(told + "resvox.errors.DatasetError: a.nii.gz: no label; fix: add it\n", 1, 2)
    found = _original(error, RunFolder(Path("run")))
    assert type(found) is DatasetError
    assert str(found) == "a.nii.gz: no label; fix: add it"
    foreign = ProcessRaisedException(told + "ValueError: no", 1, 2)
    assert _original(foreign, RunFolder(Path("run"))) is foreign


def test_the_bar_shows_loss_dice_and_time_left():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressDisplay(shown=True, steps=10, console=console) as display:
        display.start(2)
        display.step({"step": 3, "loss": 1.23456, "dice_mean": 0.5}, left_seconds=3725)
    assert "3/10" in screen.getvalue()
    assert "loss 1.235  Dice 0.500  1:02:05 left" in screen.getvalue()


def test_mirroring_of_sides_by_hand_is_warned_of(folder_of, tiny_plan, tmp_path, capsys):
    dataset = read_dataset(folder_of(labels={"background": 0, "left": 1, "right": 2}))
    plan = tiny_plan.with_changes(steps=1, orientation="SPL", mirror_axes=(1, 2))
    fit(dataset, plan, tmp_path / "run")
    assert "warning: mirror_axes [2] may swap the sides that labels name (left, right)" in capsys.readouterr().err


@pytest.mark.parametrize("broken", [float("nan"), 1e34])
def test_bfloat16_is_refused_where_a_gradient_is_not_computed(dataset, tiny_plan, tmp_path, monkeypatch, broken):
    exact = bfloat16._gradient

    def unwritten(weight, image, asked, dtype):
        found = exact(weight, image, asked, torch.float32)
        return found + broken if dtype == torch.bfloat16 else found

    bfloat16.gradient_is_sound.cache_clear()
    monkeypatch.setattr(bfloat16, "_gradient", unwritten)
    try:
        with pytest.raises(PlanError, match=r"bf16-mixed with maps of depth 2 .*8x8x8.*precision to 32-true"):
            fit(dataset, tiny_plan, tmp_path / "run", precision="bf16-mixed", progress=False)
        bfloat16.check_bfloat16(tiny_plan, Precision.float32, is_cuda=False)
        bfloat16.check_bfloat16(tiny_plan, Precision.bfloat16, is_cuda=True)
        bfloat16.check_bfloat16(tiny_plan.with_changes(patch_size=(12, 8, 8)), Precision.bfloat16, is_cuda=False)
        monkeypatch.setattr(bfloat16, "_gradient", lambda w, x, a, dtype: exact(w, x, a, torch.float32))
        bfloat16.gradient_is_sound.cache_clear()
        bfloat16.check_bfloat16(tiny_plan, Precision.bfloat16, is_cuda=False)
    finally:
        bfloat16.gradient_is_sound.cache_clear()


def test_bfloat16_trains_and_validates(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(steps=1, patch_size=(12, 8, 8))  # no map of depth 2: see training/bfloat16.py
    result = fit(dataset, plan, tmp_path / "run", precision="bf16-mixed", progress=False)
    assert math.isfinite(result.history[0]["loss"])
    with pytest.raises(PlanError, match="precision='half'"):
        fit(dataset, tiny_plan, tmp_path / "other", precision="half")
