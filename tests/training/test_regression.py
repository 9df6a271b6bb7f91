"""Dense regression: datasets, plans, and a run that learns to answer with values."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import DatasetError, PlanError
from resvox.training import draw_regression_plan, fit, read_regression, take_regression_facts
from resvox.training.checkpoints import load_checkpoint
from resvox.training.regression.cache import prepare_pairs
from resvox.training.regression.samples import ValuePatches
from resvox.weights import read_header

SPACING = (2.0, 1.0, 1.0)
SHAPE = (10, 16, 16)


def scan_and_dose(seed, shape=SHAPE):
    """Noise, and a dose that is 30 where the scan is bright and 10 elsewhere."""
    scan = np.random.default_rng(seed).normal(0, 10, shape).astype(np.float32)
    scan[1:7, 4:10, 3:11] += 300
    return scan, np.where(scan > 150, 30.0, 10.0).astype(np.float32)


@pytest.fixture
def doses(tmp_path, image_writer):
    """Two cases in a folder with dataset.json."""
    for seed, name in enumerate("ab"):
        scan, dose = scan_and_dose(seed)
        image_writer(tmp_path / "data/imagesTr" / f"{name}_0000.nii.gz", scan, SPACING)
        image_writer(tmp_path / "data/targetsTr" / f"{name}.nii.gz", dose, SPACING)
    described = {"channel_names": {"0": "CT"}, "target_names": {"0": "dose"}}
    (tmp_path / "data/dataset.json").write_text(json.dumps(described))
    return tmp_path / "data"


def tiny(dataset, **changes):
    """Six steps of a small U-Net."""
    options = {
        "device": "cpu", "encoder": "resnet10", "encoder_depth": 2, "decoder_filters": (8, 8),
        "strides": (2, 2, 1, 1, 1), "patch_size": (8, 8, 8), "batch_size": 2, "steps": 6, "warmup_steps": 0,
        "validation_interval": 3, "checkpoint_interval": 3, "augmentation": "light", **changes,
    }  # fmt: skip
    return draw_regression_plan(take_regression_facts(dataset), **options)


def test_a_folder_with_targets(doses, image_writer):
    dataset = read_regression(doses)
    assert (dataset.target_names, dataset.channel_names, dataset.spatial_dims) == (("dose",), ("CT",), 3)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    image_writer(doses / "imagesTs/c_0000.nii.gz", scan_and_dose(3)[0], SPACING)
    assert {case.id: case.split for case in read_regression(doses).cases} == {"a": None, "b": None, "c": "test"}
    (doses / "targetsTr/b.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"targetsTr: no target for case 'b' .* move the image to imagesTs"):
        read_regression(doses)


def test_a_manifest(doses):
    rows = [
        f"imagesTr/{name}_0000.nii.gz,targetsTr/{name}.nii.gz,{split}" for name, split in (("a", "train"), ("b", "val"))
    ]
    (doses / "m.csv").write_text("\n".join(["image,target,split", *rows]))
    split = read_regression(doses / "m.csv").split()
    assert ([c.id for c in split.train], [c.id for c in split.validation]) == (["a"], ["b"])
    (doses / "m.csv").write_text("image,label\nx,y")
    with pytest.raises(DatasetError, match=r"m\.csv: columns image, label; expected image .*target"):
        read_regression(doses / "m.csv")
    (doses / "m.csv").write_text("image,target\nimagesTr/a_0000.nii.gz,nowhere.nii.gz")
    with pytest.raises(DatasetError, match=r"nowhere.nii.gz: no target file \(line 2 of m.csv\)"):
        read_regression(doses / "m.csv")


def test_a_target_on_another_grid_is_refused(doses, image_writer):
    image_writer(doses / "targetsTr/a.nii.gz", scan_and_dose(0)[1], (2.0, 1.0, 1.5))
    with pytest.raises(DatasetError, match=r"image and target .*a.nii.gz lie on different grids.*\(linear\)"):
        take_regression_facts(read_regression(doses))


def test_a_plan_for_doses(doses):
    plan = tiny(read_regression(doses))
    share = 1 - 6 * 6 * 8 / 2560
    assert plan.target_mean[0] == pytest.approx(10 * share + 30 * (1 - share), abs=0.5)
    assert plan.target_std[0] == pytest.approx(20 * np.sqrt(share * (1 - share)), abs=0.5)
    assert plan.spacing_mm == SPACING
    assert "dose from 10 to 30" in plan.notes["outputs"]
    assert plan.notes["normalization"].endswith("mean and deviation of the training cases")
    assert plan.notes["spacing_mm"] == "median over 2 cases"
    dense = draw_regression_plan(take_regression_facts(read_regression(doses)), model="resnet18_3d", device="cpu")
    assert dense.total_stride == (2, 2, 2)
    assert all(n % 2 == 0 for n in dense.patch_size)
    assert np.prod(dense.patch_size) <= 32**3


def test_patches_of_image_and_values_belong_together(doses, tmp_path):
    dataset = read_regression(doses)
    plan = tiny(
        dataset,
        augmentation="default",
        mirror_axes=(0, 1, 2),
        normalization=({"kind": "window", "low": -50, "high": 350},),
    )
    samples = ValuePatches(prepare_pairs(dataset.cases, dataset, plan, tmp_path / "cache"), plan)
    bright, dark = ((value - plan.target_mean[0]) / plan.target_std[0] for value in (30, 10))
    agree = []
    for number in range(24):
        sample = samples[number]
        assert sample.image.shape == sample.target.shape == (1, 8, 8, 8)
        assert torch.equal(sample.target, samples[number].target)
        middle = (bright + dark) / 2
        agree.append(((sample.image > 0) == (sample.target > middle)).float().mean().item())
    # noise, blur and contrast move a few voxels across the threshold; patches that do not match agree in half
    assert np.mean(agree) > 0.9


def test_a_run_learns_values_and_leaves_what_it_promises(doses, tmp_path):
    dataset = read_regression(doses)
    plan = tiny(dataset, steps=30, validation_interval=15, checkpoint_interval=15, learning_rate=1e-2)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[4:] == ["mae", "rmse", "mae_dose", "rmse_dose"]
    metadata = read_header(result.model_path).metadata
    assert (metadata["task"], metadata["target_names"]) == ("regression", ["dose"])
    assert metadata["target_mean"] == list(plan.target_mean)
    assert result.best_score == result.best["mae"] == metadata["training"]["scores"]["mae"]
    assert result.best["mae"] < 3  # answering the mean everywhere would be off by 4
    assert result.best["mae"] == min(row["mae"] for row in result.history if row.get("mae") is not None)


def test_resume_goes_on_as_if_nothing_had_happened(doses, tmp_path):
    dataset = read_regression(doses)
    plan = tiny(dataset)
    whole = fit(dataset, plan, tmp_path / "whole", progress=False)

    def stop(report):
        if report.step == 5:
            raise KeyError

    with pytest.raises(KeyError):
        fit(dataset, plan, tmp_path / "run", on_step=stop, progress=False)
    resumed = fit(dataset, plan, tmp_path / "run", resume=True, progress=False)
    for one, other in zip(resumed.history, whole.history, strict=True):
        for name in ("step", "loss", "mae"):
            assert (one.get(name) is None) == (other.get(name) is None)
            assert one.get(name) is None or one[name] == pytest.approx(other[name], rel=1e-4)
    for name, tensor in load_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"].items():
        other = load_checkpoint(tmp_path / "whole/checkpoints/last.pt")["model"][name]
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5)


def test_resnet18_3d_is_trained_as_it_is(doses, tmp_path):
    dataset = read_regression(doses)
    facts = take_regression_facts(dataset)
    plan = draw_regression_plan(
        facts,
        model="resnet18_3d",
        device="cpu",
        patch_size=(4, 4, 4),
        batch_size=2,
        steps=1,
        spacing_mm=(4.0, 3.0, 3.0),
    )
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    model = resvox.load_model(result.model_path)
    assert model(torch.zeros(1, 1, 4, 6, 4)).shape == (1, 1, 4, 6, 4)
    with pytest.raises(PlanError, match="model='resnet18', which is for classification"):
        fit(dataset, plan.with_changes(model="resnet18"), tmp_path / "other")
