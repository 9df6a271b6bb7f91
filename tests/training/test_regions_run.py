"""Regions, ignored voxels and partly labelled cases from the cache to the model file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import SimpleITK
import torch

from resvox.errors import PlanError
from resvox.inference import labels_from_logits, labels_from_regions
from resvox.regions import Regions
from resvox.training import draw_plan, fit, load_plan, read_dataset, take_fingerprint
from resvox.training.dice_cross_entropy import IGNORED
from resvox.training.segmentation.cache import members_of, prepare_cases
from resvox.training.segmentation.losses import MaskedLabelLoss, RegionLoss
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.task import column_of
from resvox.training.segmentation.validation import clear_outside, dice_of_case
from resvox.weights import read_header

# In the data of `write_folder` a ball is 1 and a box 2; 3 is what these tests scribble over.
LABELS = {"background": 0, "anything": [1, 2], "box": 2, "ignore": 3}
REGIONS = Regions(values={"anything": (1, 2), "box": (2,)}, class_order=(1, 2))


def scribble(folder, *, ids=("a", "b"), rows=6):
    """The first rows of each label map are not annotated."""
    for name in ids:
        path = str(folder / "labelsTr" / f"{name}.nii.gz")
        image = SimpleITK.ReadImage(path)
        array = SimpleITK.GetArrayFromImage(image)
        array[:rows] = 3
        changed = SimpleITK.GetImageFromArray(array)
        changed.CopyInformation(image)
        SimpleITK.WriteImage(changed, path)
    return folder


def describe(folder, **fields):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.fixture
def regions(folder_of):
    return read_dataset(scribble(describe(folder_of(), labels=LABELS, regions_class_order=[1, 2])))


@pytest.fixture
def ignoring(folder_of):
    labels = {"background": 0, "ball": 1, "box": 2, "ignore": 3}
    return read_dataset(scribble(describe(folder_of("ignoring"), labels=labels)))


@pytest.fixture
def partly(folder_of):
    """Case a has the ball alone, and its box is background there; case b has both."""
    folder = describe(folder_of("partly"), labelled={"a": ["ball"]})
    path = str(folder / "labelsTr/a.nii.gz")
    image = SimpleITK.ReadImage(path)
    SimpleITK.WriteImage(image * SimpleITK.Cast(image == 1, image.GetPixelID()), path)
    return read_dataset(folder)


# ------------------------------------------------------------------------------------------------- plans


def test_a_plan_for_regions_has_an_output_for_each(regions, tmp_path):
    fingerprint = take_fingerprint(regions)
    plan = draw_plan(fingerprint, device="cpu")
    assert (plan.outputs, plan.num_classes) == ("regions", 2)
    assert plan.notes["num_classes"] == "regions: anything [1, 2], box [2]"
    assert load_plan(plan.save(tmp_path / "plan.yaml")) == plan
    assert plan.model_options()["num_classes"] == 2


def test_ignored_voxels_give_no_intensities(ignoring, folder_of):
    whole = take_fingerprint(read_dataset(folder_of()))
    partial = take_fingerprint(ignoring)
    assert partial.voxels["ball"] < whole.voxels["ball"]
    assert 3 not in partial.labels.values()
    assert partial.intensities[0].mean > 100  # that of the noise around the ball is 0


def test_a_plan_and_a_dataset_have_the_same_kind_of_outputs(regions, ignoring, tiny_plan, tmp_path):
    with pytest.raises(PlanError, match="outputs=labels in the plan; expected regions, as in the dataset"):
        fit(regions, tiny_plan, tmp_path / "run", progress=False)
    with pytest.raises(PlanError, match="outputs=regions in the plan; expected labels, as in the dataset"):
        fit(ignoring, tiny_plan.with_changes(outputs="regions"), tmp_path / "run", progress=False)
    with pytest.raises(PlanError, match="outputs='masks'"):
        tiny_plan.with_changes(outputs="masks")
    assert tiny_plan.with_changes(outputs="regions", num_classes=1).num_classes == 1
    with pytest.raises(PlanError, match="num_classes=1; expected at least 2"):
        tiny_plan.with_changes(num_classes=1)


# ------------------------------------------------------------------------------------------------- samples


def test_the_cache_keeps_regions_and_what_is_annotated(regions, tiny_plan, tmp_path):
    (case, _) = prepare_cases(regions.cases, regions, tiny_plan.preprocessing(), tmp_path / "cache")
    assert case.targets == [1, 2]
    assert members_of(regions) == [[False, False], [True, False], [True, True]]
    label = np.asarray(case.label).ravel()
    assert set(np.unique(label)) == {0, 1, 2, 3}
    assert set(label[case.voxels(1)]) == {1, 2}
    assert set(label[case.voxels(2)]) == {2}
    assert set(label[case.voxels(0)]) == {0, 1, 2}


def test_an_entry_of_the_cache_depends_on_regions_and_on_what_is_labelled(regions, partly, tiny_plan, tmp_path):
    preprocessing, folder = tiny_plan.preprocessing(), tmp_path / "cache"
    from dataclasses import replace

    swapped = replace(regions, regions=Regions(values={"box": (2,), "anything": (1, 2)}, class_order=(2, 1)))
    one, other = (prepare_cases(each.cases, each, preprocessing, folder)[0] for each in (regions, swapped))
    assert one.folder != other.folder
    (case, whole) = prepare_cases(partly.cases, partly, preprocessing, folder)
    assert (case.known, whole.known) == ((True, False), None)
    relabelled = replace(partly.cases[0], labelled=("ball", "box"))
    assert prepare_cases([relabelled], partly, preprocessing, folder)[0].folder != case.folder


@pytest.mark.parametrize("foreground", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["regions", "ignoring"])
def test_patches_are_centred_on_annotated_voxels(kind, foreground, tiny_plan, tmp_path, request):
    dataset = request.getfixturevalue(kind)
    changes = {"patch_size": (1, 1, 1), "strides": (1,) * 5, "augmentation": "none"}
    plan = tiny_plan.with_changes(**changes, foreground_fraction=foreground)
    cases = prepare_cases(dataset.cases, dataset, plan.preprocessing(), tmp_path / "cache")
    sampler = PatchSampler(cases, plan, ignored=len(dataset.labels))
    drawn = [int(sampler[number].target) for number in range(60)]
    assert IGNORED not in drawn
    assert {0: 0, 0.5: 30, 1: 60}[foreground] <= sum(value > 0 for value in drawn)


def test_patches_hold_ignored_voxels_as_such(ignoring, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(augmentation="default")
    cases = prepare_cases(ignoring.cases, ignoring, plan.preprocessing(), tmp_path / "cache")
    targets = torch.stack([PatchSampler(cases, plan, ignored=3)[number].target for number in range(20)])
    assert set(targets.unique().tolist()) == {IGNORED, 0, 1, 2}


def test_samples_say_what_their_case_is_labelled_with(partly, tiny_plan, tmp_path):
    cases = prepare_cases(partly.cases, partly, tiny_plan.preprocessing(), tmp_path / "cache")
    sampler = PatchSampler(cases, tiny_plan, targets=2)
    known = {sample.case: sample.known.tolist() for sample in (sampler[number] for number in range(4))}
    assert known == {"a": [True, False], "b": [True, True]}
    assert PatchSampler(cases, tiny_plan)[0].known is None


# ------------------------------------------------------------------------------------------------- scores


def test_scores_leave_out_what_is_ignored_or_not_labelled(regions, partly, tiny_plan, tmp_path):
    preprocessing = tiny_plan.preprocessing()
    (case, _) = prepare_cases(regions.cases, regions, preprocessing, tmp_path / "cache")
    members, label = np.asarray(members_of(regions)), np.asarray(case.label)
    perfect = np.where(np.stack([np.isin(label, (1, 2)), label == 2]), 1.0, -1.0)
    perfect[:, label == 3] = 1.0  # anything may be there
    assert dice_of_case(perfect, case, members, is_softmax=False) == [1.0, 1.0]
    wrong = perfect.copy()
    wrong[1, label == 1] = 1.0
    first, second = dice_of_case(wrong, case, members, is_softmax=False)
    inner = (label == 2).sum()
    assert first == 1.0
    assert second == pytest.approx(2 * inner / (2 * inner + (label == 1).sum()))
    (case, _) = prepare_cases(partly.cases, partly, preprocessing, tmp_path / "cache")
    label = np.asarray(case.label)
    logits = np.stack([label == 0, label == 1, np.full(label.shape, 0.5)]).astype(float)
    score, unknown = dice_of_case(logits, case, np.asarray(members_of(partly)), is_softmax=True)
    assert score == 1.0
    assert math.isnan(unknown)


@pytest.mark.parametrize("names", [["mean", '"mean"', '""mean""', "m", '"'], ["mean"], ["liver", "mean"]])
def test_every_label_has_a_column_of_its_own(names):
    columns = [column_of(name) for name in names]
    assert len({"dice_mean", *columns}) == len(names) + 1
    assert column_of("liver") == "dice_liver"


def test_a_label_called_mean_is_scored_beside_the_mean(folder_of, tiny_plan, tmp_path):
    dataset = read_dataset(folder_of("mean", labels={"background": 0, "mean": 1, "box": 2}))
    plan = tiny_plan.with_changes(steps=1, validation_interval=1)
    result = fit(dataset, plan, tmp_path / "run", progress=False)
    row = result.history[-1]
    values = [row['dice_"mean"'], row["dice_box"]]
    assert row["dice_mean"] == pytest.approx(np.mean([value for value in values if value is not None]))
    assert set(read_header(result.model_path).metadata["training"]["dice"]) == {"mean", "box"}
    again = fit(dataset, plan.with_changes(steps=1, max_minutes=9), tmp_path / "run", resume=True, progress=False)
    assert again.history == result.history


# ------------------------------------------------------------------------------------------------- runs


def test_regions_are_learned(regions, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(
        outputs="regions", num_classes=2, steps=40, validation_interval=40, checkpoint_interval=40,
        learning_rate=1e-2, patch_size=(16, 16, 16),
    )  # fmt: skip
    result = fit(regions, plan, tmp_path / "run", progress=False)
    losses = [row["loss"] for row in result.history]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert result.history[-1]["dice_anything"] > 0.8
    metadata = read_header(result.model_path).metadata
    assert metadata["labels"] == {"background": 0, "rest of anything": 1, "box": 2}
    assert metadata["regions"] == {"anything": [1, 2], "box": [2]}
    assert metadata["regions_class_order"] == [1, 2]
    assert metadata["ignore"] == 3
    assert set(metadata["training"]["dice"]) == {"anything", "box"}


def test_the_loss_fits_what_is_known(regions, ignoring, partly, folder_of, tiny_plan, tmp_path, monkeypatch):
    from resvox.training.losses import SegmentationLoss
    from resvox.training.segmentation.task import Segmentation

    kinds, make = [], Segmentation.loss

    def loss(self, cases, job):
        kinds.append(make(self, cases, job))
        return kinds[-1]

    monkeypatch.setattr(Segmentation, "loss", loss)
    plan = tiny_plan.with_changes(steps=1)
    for number, dataset in enumerate((regions, ignoring, partly, read_dataset(folder_of("plain")))):
        outputs = {"outputs": "regions", "num_classes": 2} if dataset is regions else {}
        result = fit(dataset, plan.with_changes(**outputs), tmp_path / f"run{number}", progress=False)
        assert math.isfinite(result.history[0]["loss"])
    assert [type(kind) for kind in kinds] == [RegionLoss, MaskedLabelLoss, MaskedLabelLoss, SegmentationLoss]


def test_a_partly_labelled_case_does_not_unlearn_what_others_teach(partly, tiny_plan, tmp_path):
    """Both cases train; the box, which a does not have, is learned from b alone as if a were not there."""
    plan = tiny_plan.with_changes(
        steps=60, validation_interval=60, checkpoint_interval=60, learning_rate=1e-2, patch_size=(16, 16, 16),
        augmentation="none",
    )  # fmt: skip
    from dataclasses import replace

    cases = [replace(case, split="train") for case in partly.cases]
    held = replace(partly.cases[1], id="again", split="validation")
    result = fit(replace(partly, cases=(*cases, held)), plan, tmp_path / "run", progress=False)
    assert result.history[-1]["dice_ball"] > 0.8
    assert result.history[-1]["dice_box"] > 0.5


def test_a_label_that_no_case_was_annotated_with_is_named(partly, tiny_plan, tmp_path, capsys):
    from dataclasses import replace

    cases = tuple(replace(case, labelled=("ball",)) for case in partly.cases[:1]) * 1
    cases = (*cases, replace(cases[0], id="c"))
    fit(replace(partly, cases=cases), tiny_plan.with_changes(steps=1), tmp_path / "run")
    assert "warning: no case is labelled with box, which cannot be learned" in capsys.readouterr().err


@pytest.mark.parametrize("is_softmax", [True, False])
def test_validation_finds_nothing_outside_of_the_mask(is_softmax):
    logits = np.random.default_rng(0).normal(size=(3, 4, 6, 6)).astype(np.float32)
    outside = np.ones((4, 6, 6), bool)
    outside[1:3, 1:5, 1:5] = False
    before = logits.copy()
    clear_outside(logits, outside, is_softmax=is_softmax)
    np.testing.assert_array_equal(logits[:, ~outside], before[:, ~outside])
    found = labels_from_logits(logits) if is_softmax else labels_from_regions(logits, (1, 2, 3))
    assert not found[outside].any()
    assert found[~outside].any()
