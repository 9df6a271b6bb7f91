"""Fine-tuning for other classes and channels than the checkpoint has: what both name keeps what it learned."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from training.conftest import tiny_plan  # noqa: F401 (fixture)

import resvox
from resvox.datasets.segmentation import Case, Dataset
from resvox.inference.reduction import labels_from_logits
from resvox.training.finetuning import begin_from_weights
from resvox.training.loop import build_model
from resvox.training.segmentation.task import Segmentation
from resvox.training.segmentation.validation import dice_per_class
from resvox.weights.by_name import BEHIND, Names, keep_by_name, names_of

OLD = {"background": 0, "liver": 1, "spleen": 2}
NEW = {"background": 0, "tumour": 1, "spleen": 2, "vessel": 3, "liver": 4}  # two more, and in another order


def dataset(labels, channels=("CT",)):
    case = Case(id="a", images=tuple(f"a_{at}.nii.gz" for at in range(len(channels))), label="a.nii.gz")
    return Dataset(name="d", cases=(case,), labels=labels, channel_names=channels, spatial_dims=3)


def save_old(plan, path, *, labels=OLD, channels=("CT",), **beside):
    torch.manual_seed(3)
    model = build_model(plan.with_changes(num_classes=len(labels), in_channels=len(channels),
                                          normalization=[{"kind": "zscore"}] * len(channels)))  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head"):
                parameter.mul_(20).add_(torch.randn_like(parameter))  # classes that win somewhere
    metadata = {"labels": labels, "channel_names": list(channels), **beside}
    return model.eval(), resvox.save_model(model, path, metadata=metadata)


def begun(plan, labels, channels=("CT",)):
    changes = {"num_classes": len(labels), "in_channels": len(channels)}
    plan = plan.with_changes(**changes, normalization=[{"kind": "zscore"}] * len(channels))
    model = build_model(plan)
    words = begin_from_weights(model, plan, Segmentation().names(dataset(labels, channels)))
    return model.eval(), words


def test_three_classes_become_five_and_the_old_ones_keep_logits_and_dice(tiny_plan, tmp_path):  # noqa: F811
    old, path = save_old(tiny_plan, tmp_path / "old.safetensors")
    new, words = begun(tiny_plan.with_changes(weights=str(path)), NEW)
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = old(image)[0].numpy(), new(image)[0].numpy()
    for name in OLD:
        row = list(NEW).index(name)
        assert torch.equal(new.head.weight[row], old.head.weight[OLD[name]])
        np.testing.assert_allclose(after[row], before[OLD[name]], rtol=0, atol=1e-5)
    # new classes: always behind the background, whatever the image is
    for name in ("tumour", "vessel"):
        np.testing.assert_allclose(after[NEW[name]], after[0] - BEHIND, rtol=0, atol=1e-5)
    values = np.array([NEW[name] for name in OLD])
    labels, found = values[labels_from_logits(before)], labels_from_logits(after)
    assert len(np.unique(labels)) == 3
    reference = np.random.default_rng(0).integers(0, 5, labels.shape)
    assert dice_per_class(found, reference, 5) == dice_per_class(labels, reference, 5)
    assert "rows of background, spleen, liver kept; tumour, vessel begin behind them" in words


def test_new_classes_learn_from_there(tiny_plan, tmp_path):  # noqa: F811
    _, path = save_old(tiny_plan, tmp_path / "old.safetensors")
    model, _ = begun(tiny_plan.with_changes(weights=str(path)), NEW)
    image, target = torch.randn(1, 1, 8, 8, 8), torch.full((1, 8, 8, 8), NEW["tumour"])
    torch.nn.functional.cross_entropy(model(image), target).backward()
    assert model.head.weight.grad[NEW["tumour"]].abs().max() > 0


def test_a_head_without_a_name_in_common_or_by_the_plan_is_new(tiny_plan, tmp_path):  # noqa: F811
    old, path = save_old(tiny_plan, tmp_path / "old.safetensors")
    plan = tiny_plan.with_changes(weights=str(path))
    for model, words in (
        begun(plan, {"background": 0, "rib": 1, "heart": 2}),
        begun(plan.with_changes(weights_head="new"), OLD),
    ):
        assert not torch.equal(model.head.weight, old.head.weight)
        assert "kept;" not in words
    same, _ = begun(plan, OLD)
    assert torch.equal(same.head.weight, old.head.weight)


def test_channels_are_matched_by_name_and_new_ones_begin_at_zero(tiny_plan, tmp_path):  # noqa: F811
    old, path = save_old(tiny_plan, tmp_path / "old.safetensors", channels=("T1", "FLAIR"))
    channels = ("FLAIR", "T2", "T1")
    new, words = begun(tiny_plan.with_changes(weights=str(path)), OLD, channels)
    t1, t2, flair = torch.randn(3, 1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = old(torch.cat([t1, flair], 1)), new(torch.cat([flair, t2, t1], 1))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    assert "channels: FLAIR, T1 kept; T2 begin at zero" in words
    fewer, _ = begun(tiny_plan.with_changes(weights=str(path)), OLD, ("FLAIR",))
    first = next(name for name, _ in old.named_parameters())
    assert torch.equal(fewer.state_dict()[first][:, 0], old.state_dict()[first][:, 1])


def test_regions_keep_theirs_and_new_ones_are_nowhere(tiny_plan, tmp_path):  # noqa: F811
    regions = {"regions": {"whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    old, path = save_old(tiny_plan, tmp_path / "old.safetensors", labels={"whole": 1, "core": 2}, **regions)
    model = build_model(tiny_plan)
    names = Names(outputs=("core", "cyst", "whole"), channels=("CT",), has_background=False, independent=True)
    assert keep_by_name(model, path, names)
    assert torch.equal(model.head.weight[0], old.head.weight[1])
    assert torch.equal(model.head.weight[2], old.head.weight[0])
    assert not model.head.weight[1].any()
    assert float(model.head.bias[1].detach()) == -BEHIND


def test_names_of_other_sources(tmp_path):
    folder = tmp_path / "Trainer__plans__3d" / "fold_0"
    folder.mkdir(parents=True)
    (folder.parent / "plans.json").write_text("{}")
    described = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}
    (folder.parent / "dataset.json").write_text(json.dumps(described))
    (folder / "checkpoint_final.pth").write_bytes(b"")
    expected = Names(outputs=("background", "a", "b"), channels=("CT", "PET"))
    assert names_of(folder / "checkpoint_final.pth") == expected
    described["labels"] = {"background": 0, "whole": [1, 2], "core": 2}
    (folder.parent / "dataset.json").write_text(json.dumps(described))
    assert names_of(folder / "checkpoint_final.pth").outputs == ("whole", "core")
    assert names_of(tmp_path / "nothing.pth") is None


@pytest.mark.parametrize("framework", ["torch"])
def test_classes_of_images_keep_theirs_and_new_ones_do_not_win(framework, tmp_path):
    torch.manual_seed(0)
    thin = {"widths": (4, 6, 8, 10), "stem_width": 4}
    old = resvox.create_model("resnet18", num_classes=2, in_channels=1, **thin).eval()
    inference = {"image_size": [16, 16], "fit": "resize", "batch_size": 16}
    metadata = {
        "labels": {"cat": 0, "dog": 1}, "channel_names": ["grey"], "task": "classification", "inference": inference,
    }  # fmt: skip
    path = resvox.save_model(old, tmp_path / "old.safetensors", metadata=metadata)
    new = resvox.create_model("resnet18", num_classes=3, in_channels=1, **thin)
    resvox.load_weights(new, path, classifier="drop")
    names = Names(outputs=("bird", "dog", "cat"), channels=("grey",), has_background=False)
    assert keep_by_name(new.eval(), path, names)
    image = torch.randn(20, 1, 32, 32)
    with torch.no_grad():
        before, after = old(image), new(image)
    torch.testing.assert_close(after[:, [2, 1]], before, rtol=0, atol=1e-5)
    assert (after[:, 0] < after[:, 1:].max(dim=1).values).all()


@pytest.mark.parametrize("layout", ["run", "snapshot"])
def test_a_folder_names_what_its_one_file_of_weights_does(tiny_plan, tmp_path, layout):  # noqa: F811
    """As a run, or as the cache of a hub, in which an address of it lies."""
    folder = tmp_path / "source"
    place = folder if layout == "run" else folder / "snapshots" / "abc"
    place.mkdir(parents=True)
    old, path = save_old(tiny_plan, place / "model.safetensors")
    if layout == "run":
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.pt").write_bytes(b"not read")
    assert names_of(folder) == names_of(path)
    new, words = begun(tiny_plan.with_changes(weights=str(folder)), NEW)
    assert "rows of background, spleen, liver kept" in words
    assert torch.equal(new.head.weight[NEW["spleen"]], old.head.weight[OLD["spleen"]])
