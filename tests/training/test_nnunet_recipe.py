"""``--recipe nnunet``: the same plans as nnU-Net's own planners, stored by `tests/nnunet/peer_plans.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training.classified import write_npz

from resvox.catalog import get_blueprint
from resvox.errors import PlanError
from resvox.preprocessing import NnunetPreprocessing
from resvox.training import Fingerprint, Plan
from resvox.training.loop import build_model
from resvox.training.optimization.schedule import learning_rate
from resvox.training.plans.fingerprint import CaseFacts, Intensities
from resvox.training.plans.nnunet.memory import features_of
from resvox.training.plans.recipe import Recipe
from resvox.training.segmentation.nnunet_planning import make_plan
from resvox.volumes import read_label_map, read_volume
from resvox.weights import read_header
from resvox.workflow import predict, train

REFERENCES = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text())
PLANNERS = {
    "plain": ("plain_unet", {}), "plain_4": ("plain_unet", {"memory_gb": 4}), "M": ("resenc_unet", {}),
    "L": ("resenc_unet", {"preset": "L"}), "XL": ("resenc_unet", {"preset": "XL"}),
    "L_12": ("resenc_unet", {"preset": "L", "memory_gb": 12}), "M_2": ("resenc_unet", {"memory_gb": 2}),
}  # fmt: skip
PAIRS = [(case, planner) for case, facts in REFERENCES.items() for planner in facts["plans"]]


def fingerprint_of(facts):
    """What nnU-Net's fingerprint holds, as ours."""
    is_volume = facts["spacings"][0][0] < 900 and facts["shapes"][0][0] > 1
    first = 0 if is_volume else 1
    cases = []
    for number, (spacing, shape) in enumerate(zip(facts["spacings"], facts["shapes"], strict=True)):
        whole = (shape[first], shape[first + 1], *shape[first + 2 :])
        uncropped = (round(whole[0] / facts["share"]), *whole[1:])
        cases.append(
            CaseFacts(
                id=str(number), shape=uncropped, spacing_mm=tuple(map(float, spacing[first:])),
                axis_codes="SPL" if is_volume else "", voxels={}, cropped_shape=whole,
            )
        )  # fmt: skip
    values = {"percentile_00_5": -60.0, "percentile_99_5": 200.0, "mean": 40.5, "std": 55.25}
    return Fingerprint(
        name="toy", spatial_dims=3 if is_volume else 2, channel_names=tuple(facts["channels"]),
        labels={name: value for value, name in enumerate(facts["labels"])}, orientation="SPL" if is_volume else None,
        cases=tuple(cases),
        intensities=tuple(Intensities(channel=c, minimum=-900.0, maximum=1500.0, **values) for c in facts["channels"]),
    )  # fmt: skip


@pytest.mark.parametrize(("case", "planner"), PAIRS)
def test_plans_are_those_of_nnunets_planners(case, planner):
    facts = REFERENCES[case]
    fingerprint = fingerprint_of(facts)
    dims = fingerprint.spatial_dims
    expected = facts["plans"][planner]["3d_fullres" if dims == 3 else "2d"]
    model, options = PLANNERS[planner]
    plan = make_plan(fingerprint, recipe=Recipe(name="nnunet", **options), model=model)
    order = expected["order"] if dims == 3 else [0, 1]  # of nnU-Net's axes, the coarsest first
    assert [plan.spacing_mm[axis] for axis in order] == expected["spacing"]
    assert [plan.patch_size[axis] for axis in order] == expected["patch_size"]
    assert plan.batch_size == expected["batch_size"]
    assert plan.batch_dice == expected["batch_dice"]
    network = plan.built_options()
    for name in ("strides", "kernels"):
        assert [[stage[axis] for axis in order] for stage in network[name]] == expected[name]
    kinds = {"CTNormalization": "window", "ZScoreNormalization": "zscore"}
    assert [rule["kind"] for rule in plan.normalization] == [kinds[name] for name in expected["normalization"]]
    masked = [rule["nonzero_only"] for rule in plan.normalization if rule["kind"] == "zscore"]
    wanted = [mask for mask, name in zip(expected["masked"], expected["normalization"], strict=True) if "Z" in name]
    assert masked == wanted
    assert list(features_of(len(network["strides"]), dims)) == expected["features"]
    assert (plan.deep_supervision, plan.drops_coarsest_level) == (True, True)


def test_the_learning_is_that_of_nnunets_trainer():
    plan = make_plan(fingerprint_of(REFERENCES["ct"]), recipe=Recipe(name="nnunet"))
    fields = plan.to_dict()
    assert {name: fields[name] for name in ("optimizer", "learning_rate", "momentum", "weight_decay", "decay")} == {
        "optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.99, "weight_decay": 3e-5, "decay": "poly",
    }  # fmt: skip
    assert (plan.steps, plan.warmup_steps, plan.gradient_clip) == (250_000, 0, 12)
    assert learning_rate(plan, 125_000) == pytest.approx(0.01 * 0.5**0.9)
    assert (plan.foreground_fraction, plan.foreground_order, plan.augmentation) == (0.33, "last", "nnunet")
    assert (plan.pipeline, plan.crop, plan.norm, plan.mirror_axes) == ("nnunet", "nonzero", "instance", (0, 1, 2))
    assert all(plan.notes[name] for name in ("spacing_mm", "patch_size", "batch_size", "optimizer", "steps"))
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize("model", ["unet", "segresnet_ds", "residual_unet", "monai_unet"])
def test_any_network_can_be_trained_with_the_recipe(model):
    for case in ("thick_mr", "half_voxels", "slices_of_mm"):
        plan = make_plan(fingerprint_of(REFERENCES[case]), recipe=Recipe(name="nnunet", memory_gb=3), model=model)
        assert get_blueprint(model, **plan.built_options())
        assert plan.deep_supervision == (model != "monai_unet")


def test_what_is_given_is_kept_and_the_rest_fits_it():
    fingerprint = fingerprint_of(REFERENCES["ct"])
    plan = make_plan(fingerprint, recipe=Recipe(name="nnunet"), patch_size=(32, 64, 64), steps=100, ema_decay=0.9)
    assert (plan.patch_size, plan.steps, plan.ema_decay) == ((32, 64, 64), 100, 0.9)
    assert plan.batch_size > make_plan(fingerprint, recipe=Recipe(name="nnunet")).batch_size
    assert get_blueprint("resenc_unet", **plan.built_options())
    coarse = make_plan(fingerprint, recipe=Recipe(name="nnunet"), spacing_mm=(5.0, 2.0, 2.0))
    assert coarse.spacing_mm == (5.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "nnUNet"}, "recipe='nnUNet'; expected one of resvox, nnunet"),
        ({"name": "nnunet", "preset": "S"}, "preset='S'; expected one of M, L, XL"),
        ({"name": "nnunet", "memory_gb": 0}, "memory_gb=0; expected more than 0"),
        ({"memory_gb": 8}, "expected a recipe that plans for memory; fix: add --recipe nnunet"),
    ],
)
def test_contradictions_of_recipes_are_refused(values, words):
    with pytest.raises(PlanError, match=words):
        Recipe(**values)


def test_a_plan_and_a_recipe_and_other_tasks_are_refused(folder_of, tmp_path):
    folder = folder_of()
    with pytest.raises(PlanError, match="recipe='nnunet' with a plan; expected one of them"):
        train(folder, tmp_path / "run", recipe="nnunet", plan=Plan())
    shapes = write_npz(tmp_path / "shapes.npz")
    with pytest.raises(PlanError, match="recipe='nnunet' for a classification; expected a segmentation"):
        train(shapes, tmp_path / "run", task="classification", recipe="nnunet")
    with pytest.raises(PlanError, match="pipeline='nnunet' with spatial_dims=3, spacing_mm=None"):
        Plan(pipeline="nnunet")


def test_the_command_trains_by_the_recipe_prepares_as_nnunet_and_predicts(folder_of, tmp_path):
    folder = folder_of(ids=("a", "b", "c"), shape=(12, 20, 20))
    result = train(
        folder, tmp_path / "run", recipe="nnunet", steps=2, patch_size=(8, 16, 16), batch_size=2, profile=True
    )
    plan = result.plan
    assert plan.model == "resenc_unet"
    assert plan.notes["patch_size"] == "given"
    levels = build_model(plan).train()(torch.zeros(2, 1, *plan.patch_size))
    assert [each.shape[2:] for each in levels] == sorted((each.shape[2:] for each in levels), reverse=True)
    assert len({each.shape[2:] for each in levels}) == len(levels) > 1  # each at the size of its level
    header = read_header(result.fit.model_path)
    assert header.metadata["preprocessing"]["kind"] == "nnunet"
    expected = NnunetPreprocessing.from_dict(header.metadata["preprocessing"])
    volume = read_volume(folder / "imagesTr/a_0000.nii.gz")
    (entry,) = (path for path in (tmp_path / "run/cache").iterdir() if path.name.startswith("a"))
    assert np.array_equal(np.load(entry / "image.npy"), expected.apply(volume).array)
    # crops, windows and resamples as nnU-Net: the values under the labels
    rule = header.metadata["preprocessing"]["rules"][0]
    assert rule["scheme"] == "CTNormalization"
    out = tmp_path / "out"
    predict(tmp_path / "run", folder / "imagesTr/a_0000.nii.gz", out=out, engine="torch-plain", device="cpu")
    (path,) = out.glob("a*.nii.gz")
    assert read_label_map(path).grid.matches(volume.grid)
    stages = json.loads((tmp_path / "run/profile.json").read_text())
    assert stages["steps"] == 2
    assert set(stages["seconds"]) == {"data", "forward", "backward", "optimizer", "validation", "other"}
    assert all(seconds > 0 for seconds in stages["seconds"].values())
    assert sum(stages["seconds"].values()) == pytest.approx(stages["total"])
    assert 0 < stages["data_share"] < 1
    resumed = train(folder, tmp_path / "run", recipe="nnunet", resume=True)  # the plan is that of the run
    assert resumed.plan == plan
    assert resumed.fit.profile is None


def test_adamw_has_its_own_rates_and_a_warm_up_unless_they_are_given():
    fingerprint, recipe = fingerprint_of(next(iter(REFERENCES.values()))), Recipe(name="nnunet")
    plan = make_plan(fingerprint, recipe=recipe, optimizer="adamw", steps=2000)
    assert (plan.learning_rate, plan.weight_decay, plan.warmup_steps) == (1e-3, 1e-2, 100)
    assert make_plan(fingerprint, recipe=recipe, optimizer="adamw").warmup_steps == 500
    given = {"optimizer": "adamw", "learning_rate": 2e-4, "weight_decay": 0.0, "warmup_steps": 7}
    plan = make_plan(fingerprint, recipe=recipe, **given)
    assert (plan.learning_rate, plan.weight_decay, plan.warmup_steps) == (2e-4, 0.0, 7)
    plan = make_plan(fingerprint, recipe=recipe, optimizer="sgd")
    assert (plan.learning_rate, plan.weight_decay, plan.warmup_steps) == (1e-2, 3e-5, 0)
