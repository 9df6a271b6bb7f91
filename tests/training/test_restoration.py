"""Pretraining: hidden blocks of scans are restored, and another training begins from the weights."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import resvox
from resvox.cli import app
from resvox.datasets import read_scans
from resvox.errors import DatasetError, PlanError
from resvox.training import FitResult, fit, load_plan
from resvox.training.checkpoints import load_checkpoint
from resvox.training.finetuning import begin_from_weights
from resvox.training.loop import build_model
from resvox.training.restoration import hiding
from resvox.training.restoration.cache import prepare_scans
from resvox.training.restoration.fingerprint import take_scan_facts
from resvox.training.restoration.hiding import HiddenLoss, hidden_blocks, target_of
from resvox.training.restoration.planning import make_plan
from resvox.training.restoration.samples import HiddenPatches
from resvox.training.restoration.task import Restoration
from resvox.training.task import Cases
from resvox.weights import read_header
from resvox.weights.by_name import Names
from resvox.workflow import pretrain, train
from resvox.workflow.training_report import following

SPACING = (2.0, 1.0, 1.0)
SHAPE = (12, 20, 18)


def wave(seed, shape=SHAPE):
    """Smooth structure, so that what is hidden follows from what is around it."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    phases = rng.uniform(0, 6, len(shape))
    array = sum(np.sin(axis / 2.5 + phase) for axis, phase in zip(axes, phases, strict=True))
    return (100 * array + rng.normal(0, 5, shape)).astype(np.float32)


@pytest.fixture
def scans(tmp_path, image_writer):
    """Three scans in a folder."""
    for seed, name in enumerate("abc"):
        image_writer(tmp_path / "scans" / f"{name}.nii.gz", wave(seed), SPACING)
    return tmp_path / "scans"


def tiny(dataset, **changes):
    """A few steps of a small U-Net."""
    options = {
        "device": "cpu", "encoder": "resnet10", "encoder_depth": 2, "decoder_filters": (8, 8),
        "strides": (2, 2, 1, 1, 1), "patch_size": (8, 16, 16), "hidden_block": (2, 4, 4), "batch_size": 2, "steps": 6,
        "warmup_steps": 0, "validation_interval": 3, "checkpoint_interval": 3, "augmentation": "light", **changes,
    }  # fmt: skip
    return make_plan(take_scan_facts(dataset), **options)


@pytest.mark.parametrize("size", [(8, 16, 16), (7, 9)])
@pytest.mark.parametrize("fraction", [0.01, 0.6, 0.99])
def test_a_share_of_the_blocks_is_hidden_and_never_all_or_none(size, fraction):
    block = (2, 4, 4)[-len(size) :]
    masks = [hidden_blocks(size, block, fraction, np.random.default_rng(seed)) for seed in range(40)]
    assert all(mask.shape == size and mask.dtype == bool and mask.sum() > 0 for mask in masks)
    blocks = np.prod([n / side for n, side in zip(size, block, strict=True)])
    expected = min(max(fraction, 1 / blocks), 1 - 1 / blocks)  # at least one is hidden, and one is not
    assert np.mean([mask.mean() for mask in masks]) == pytest.approx(expected, abs=0.15)
    assert len({mask.tobytes() for mask in masks}) > 10
    again = hidden_blocks(size, block, fraction, np.random.default_rng(3))
    np.testing.assert_array_equal(again, masks[3])


def test_what_is_hidden_is_a_block_as_a_whole():
    mask = hidden_blocks((8, 8), (4, 4), 0.5, np.random.default_rng(0))
    changes = [np.flatnonzero((np.diff(mask.astype(int), axis=axis) != 0).any(axis=1 - axis)) for axis in (0, 1)]
    assert all(len({int(place) % 4 for place in each}) <= 1 for each in changes)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 3.0), ("mse", 13.0)])
def test_the_loss_counts_hidden_voxels_alone(kind, expected):
    values = torch.zeros(1, 2, 4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, 1] = True
    values[:, 0, 1, 1], values[:, 1, 1, 1] = 5.0, 1.0
    output = torch.full((1, 2, 4, 4), 100.0)  # far off where it was shown
    output[:, :, 1, 1] = 0.0
    loss = HiddenLoss(kind)
    assert float(loss(output, target_of(values[0], mask)[None])) == pytest.approx(expected)
    weighed = float(HiddenLoss(kind, visible_weight=0.5)(output, target_of(values[0], mask)[None]))
    shown = 100.0 if kind == "l1" else 10_000.0
    assert weighed == pytest.approx((expected + 0.5 * 15 * shown) / (1 + 0.5 * 15))


@pytest.mark.parametrize(("kind", "fine", "coarse"), [("l1", 3.0, 1.5), ("mse", 13.0, 3.25)])
def test_a_coarse_output_is_compared_with_means_and_counts_half(kind, fine, coarse):
    values = torch.zeros(1, 2, 4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1] = True  # half of each coarse voxel above, which has half of the values
    values[:, 0, 1], values[:, 1, 1] = 5.0, 1.0
    outputs = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)]
    found = float(HiddenLoss(kind)(outputs, target_of(values[0], mask)[None]))
    assert found == pytest.approx((2 * fine + coarse) / 3)


def test_processes_that_train_together_have_one_loss(monkeypatch):
    """That of the batch of all: sums and counts are added before the division."""
    values, mask = torch.randn(1, 4, 4), torch.zeros(4, 4, dtype=torch.bool)
    mask[0] = True
    target, output = target_of(values, mask)[None], torch.randn(1, 1, 4, 4)
    other = torch.tensor([5.0, 3.0])  # what another process has
    monkeypatch.setattr(hiding, "summed", lambda sums: sums + other)
    error = (output[0, 0] - values[0])[mask].abs().sum()
    assert float(HiddenLoss("l1", shared=True)(output, target)) == pytest.approx(float((error + 5) / (4 + 3)))
    assert float(HiddenLoss("l1")(output, target)) == pytest.approx(float(error / 4))


def test_the_plan_states_what_is_shown_counts(scans):
    plan = tiny(read_scans(scans), visible_weight=0.5)
    loss = Restoration().loss(Cases(train=[], validation=[]), SimpleNamespace(plan=plan))
    assert (loss.kind, loss.visible_weight, loss.shared) == ("l1", 0.5, True)
    with pytest.raises(PlanError, match="visible_weight"):
        tiny(read_scans(scans), visible_weight=1.5)


def test_samples_hide_what_is_to_be_restored_and_are_the_same_each_time(scans, tmp_path):
    dataset = read_scans(scans)
    plan = tiny(dataset)
    samples = HiddenPatches(prepare_scans(dataset.cases, dataset, plan, tmp_path / "cache"), plan)
    for number in range(6):
        sample, again = samples[number], samples[number]
        assert torch.equal(sample.image, again.image)
        assert torch.equal(sample.target, again.target)
        hidden = sample.target[-1] == 1
        assert sample.image[0][hidden].abs().max() == 0
        assert sample.target[0][hidden].std() > 0.1
        assert 0.2 < hidden.float().mean() < 0.7
    assert {samples[number].case for number in range(3)} == {"a", "b", "c"}


def test_the_target_has_no_noise_of_the_augmentation(scans, tmp_path):
    dataset = read_scans(scans)
    plan = tiny(dataset, augmentation="default", mirror_axes=())
    samples = HiddenPatches(prepare_scans(dataset.cases, dataset, plan, tmp_path / "cache"), plan)
    quiet = HiddenPatches(samples.cases, plan)
    quiet.augmentation.intensity = ()
    made = [samples[number] for number in range(12)]
    seen = [(each.image[0] - each.target[0])[each.target[-1] == 0].abs().max() for each in made]
    assert max(seen) > 0.01  # values that are shown are augmented
    # Where it is hidden follows from the numbers that noise has drawn, what is to be restored does not.
    assert all(torch.equal(each.target[:-1], quiet[number].target[:-1]) for number, each in enumerate(made))


def test_scans_within_an_empty_border_are_cropped_and_normalised_as_for_another_training(tmp_path, image_writer):
    for seed, name in enumerate("abc"):
        array = np.zeros((16, 32, 32), np.float32)
        array[2:14, 6:26, 8:26] = 1000 + wave(seed)
        image_writer(tmp_path / "scans" / f"{name}.nii.gz", array, SPACING)
    dataset = read_scans(tmp_path / "scans")
    plan = tiny(dataset)
    assert plan.crop == "nonzero"
    assert plan.normalization == ({"kind": "zscore", "nonzero_only": True},)
    prepared = prepare_scans(dataset.cases, dataset, plan, tmp_path / "cache")
    assert [case.image.shape for case in prepared] == [(1, 12, 20, 18)] * 3
    assert all(abs(float(case.image.mean())) < 1e-3 for case in prepared)
    made = pretrain(tmp_path / "scans", tmp_path / "pre.safetensors", plan=plan, device="cpu", progress=False)
    assert read_header(made.weights).metadata["preprocessing"]["crop"] == "nonzero"


def test_a_network_learns_to_restore(scans, tmp_path):
    dataset = read_scans(scans)
    plan = tiny(dataset, steps=60, validation_interval=60, learning_rate=3e-3, augmentation="none")
    best = fit(dataset, plan, tmp_path / "run", progress=False).best
    assert best["hidden_error"] < 0.8 * best["error_of_zero"]


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(scans, tmp_path):
    dataset = read_scans(scans)
    plan = tiny(dataset, augmentation="default")
    whole = fit(dataset, plan, tmp_path / "whole", progress=False)

    def stop(report):
        if report.step == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(dataset, plan, tmp_path / "parts", progress=False, on_step=stop)
    resumed = fit(dataset, plan, tmp_path / "parts", progress=False, resume=True)
    assert resumed.best == whole.best
    states = [load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["model"] for name in ("whole", "parts")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_training_begins_from_the_weights(scans, tmp_path, image_writer):
    plan = tiny(read_scans(scans))
    made = pretrain(scans, tmp_path / "pre.safetensors", plan=plan, device="cpu", progress=False)
    assert made.weights == tmp_path / "pre.safetensors"
    assert made.weights.read_bytes() == (tmp_path / "pre" / "model.safetensors").read_bytes()
    assert read_header(made.weights).metadata["training"]["pretraining"] == "restoration of hidden blocks"
    data = tmp_path / "data"
    for seed, name in enumerate("ab"):
        image_writer(data / "imagesTr" / f"{name}_0000.nii.gz", wave(seed), SPACING)
        image_writer(data / "labelsTr" / f"{name}.nii.gz", (wave(seed) > 50).astype(np.uint8), SPACING)
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "crest": 1}, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps({**described, "numTraining": 2}))
    settled = train(data, tmp_path / "run", weights=made.weights, plan_only=True, device="cpu").plan
    module, before = build_model(settled), build_model(settled)
    said = begin_from_weights(module, settled, Names(outputs=("background", "crest"), channels=("MR",)))
    assert "pre.safetensors" in said
    pretrained = load_checkpoint(tmp_path / "pre" / "checkpoints" / "best.pt")["model"]
    loaded = {name for name, value in module.state_dict().items() if torch.equal(value, pretrained[name])}
    # model files do not hold how many batches the running statistics have seen
    left_out = {name for name in pretrained if name.startswith("head.") or name.endswith("num_batches_tracked")}
    assert loaded - left_out == set(pretrained) - left_out
    assert any(not torch.equal(value, before.state_dict()[name]) for name, value in module.state_dict().items())


def test_a_file_of_another_program_is_not_overwritten_unless_told(scans, tmp_path):
    out = tmp_path / "pre.safetensors"
    out.write_bytes(b"of hours")
    plan = tiny(read_scans(scans), steps=2, validation_interval=2)
    options = {"plan": plan, "device": "cpu", "progress": False}
    with pytest.raises(PlanError, match=r"pre\.safetensors exists; expected a new file; .*--overwrite, --resume"):
        pretrain(scans, out, **options)
    assert not (tmp_path / "pre").exists()
    assert out.read_bytes() == b"of hours"
    pretrain(scans, out, **options, overwrite=True)
    assert out.read_bytes() == (tmp_path / "pre" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("rank", "copied"), [("0", True), ("1", False)])
def test_of_several_processes_one_writes_the_file_and_the_report(scans, tmp_path, monkeypatch, rank, copied):
    plan = tiny(read_scans(scans), steps=2, validation_interval=2)
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def trained(*_, **__):
        return FitResult(
            run_folder=tmp_path, model_path=tmp_path / "model.safetensors", best={}, shown="hidden_error", title="",
            history=[], seconds=0.0,
        )  # fmt: skip

    reports = []
    monkeypatch.setattr(resvox.training, "fit", trained)
    monkeypatch.setattr(following, "report_of", reports.append)
    monkeypatch.setenv("RANK", rank)
    made = pretrain(scans, tmp_path / "pre.safetensors", plan=plan, device="cpu", progress=False)
    assert made.weights == tmp_path / "pre.safetensors"
    assert made.weights.exists() == copied
    assert len(reports) == copied


def test_a_dataset_gives_its_images_alone(scans, tmp_path, image_writer):
    data = tmp_path / "data"
    for folder, name in (("imagesTr", "a"), ("imagesTr", "b"), ("imagesTs", "c")):
        for channel in range(2):
            image_writer(data / folder / f"{name}_{channel:04d}.nii.gz", wave(channel), SPACING)
    for name in "ab":
        image_writer(data / "labelsTr" / f"{name}.nii.gz", np.ones(SHAPE, np.uint8), SPACING)
    described = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "all": 1}}
    (data / "dataset.json").write_text(json.dumps({**described, "file_ending": ".nii.gz", "numTraining": 2}))
    dataset = read_scans(data)
    assert [(case.id, case.split) for case in dataset.cases] == [("a", None), ("b", None), ("c", None)]
    assert dataset.channel_names == ("T1", "T2")
    grouped = read_scans(data / "imagesTr")
    assert [(case.id, len(case.images)) for case in grouped.cases] == [("a", 2), ("b", 2)]
    assert len(read_scans(scans).cases) == 3


def test_what_cannot_be_pretrained_with_is_refused(scans, tmp_path, image_writer):
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_scans(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images in this folder"):
        read_scans(tmp_path / "empty")
    kept = shutil.copytree(scans, tmp_path / "kept")
    image_writer(scans / "d_0000.nii.gz", wave(1), SPACING)
    image_writer(scans / "d_0001.nii.gz", wave(1), SPACING)
    with pytest.raises(DatasetError, match="scan 'd' has 2 files; expected 1 channels, as scan 'a'"):
        read_scans(scans)
    with pytest.raises(PlanError, match=r"hidden_fraction=1\.0"):
        tiny(read_scans(kept), hidden_fraction=1.0)
    with pytest.raises(PlanError, match="expected several blocks in a patch"):
        tiny(read_scans(kept), hidden_block=(8, 16, 16))


def test_the_command(scans, tmp_path):
    tiny(read_scans(scans), steps=2, validation_interval=2).save(tmp_path / "plan.yaml")
    arguments = ["pretrain", str(scans), "-o", str(tmp_path / "pre.safetensors"), "--plan", str(tmp_path / "plan.yaml")]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "Error of hidden voxels" in done.output
    assert (tmp_path / "pre.safetensors").exists()
    assert load_plan(tmp_path / "pre" / "plan.yaml").task == "restoration"
    again = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert again.exit_code == 1
    assert "--resume" in again.output
    named = str(tmp_path / "planned.safetensors")
    planned = CliRunner().invoke(app, ["pretrain", str(scans), "-o", named, "--plan-only"])
    assert planned.exit_code == 0, planned.output
    assert f"-o {named} --plan {tmp_path / 'planned' / 'plan.yaml'}" in planned.output
    assert load_plan(tmp_path / "planned" / "plan.yaml").hidden_fraction == 0.4
