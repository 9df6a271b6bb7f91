"""Losses of partly known voxels: what is unknown changes nothing, and what is known counts as without it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from resvox.errors import PlanError
from resvox.training.dice_cross_entropy import IGNORED
from resvox.training.losses import SegmentationLoss
from resvox.training.segmentation.losses import MaskedLabelLoss, RegionLoss, with_unknown_in_background

KINDS = ("dice_ce", "ce")
# class indices 0 to 3 in the regions "whole", "core", "enhancing"
MEMBERS = [[False, False, False], [True, False, False], [True, True, False], [True, True, True]]


def close(one, other):
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@st.composite
def problems(draw, classes=4):
    """Logits, labels and which voxels are ignored, in 2D or 3D."""
    seed = draw(st.integers(0, 2**32 - 1))
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=3))
    batch = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *shape, generator=generator)
    label = torch.randint(0, 4, (batch, *shape), generator=generator)
    ignored = torch.rand(label.shape, generator=generator) < draw(st.floats(0, 1))
    return logits, label, ignored


def unmasked(logits, label, ignored):
    """Only the voxels that are not ignored, as a batch of one row of voxels."""
    return logits.movedim(1, -1)[~ignored].T[None], label[~ignored][None]


@pytest.mark.parametrize("kind", KINDS)
@given(problem=problems())
@settings(deadline=None, max_examples=20)
def test_the_loss_of_labels_is_that_of_the_voxels_that_are_not_ignored(kind, problem):
    logits, label, ignored = problem
    loss = MaskedLabelLoss(kind)
    masked = loss(logits, label.masked_fill(ignored, IGNORED))
    if ignored.all():
        assert float(masked) == 0
        return
    assert close(masked, SegmentationLoss(kind)(*unmasked(logits, label, ignored)))
    assert close(loss(logits, label), SegmentationLoss(kind)(logits, label))


def region_loss_by_formula(kind, logits, label):
    """The loss of known voxels alone, (1, regions, n) and (1, n)."""
    truth = torch.tensor(MEMBERS, dtype=torch.float32)[label].movedim(-1, 1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth)
    if kind == "ce":
        return entropy
    dice = []
    for region in range(logits.shape[1]):
        p, g = logits[:, region].sigmoid(), truth[:, region]
        dice.append(1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5))
    return entropy + torch.stack(dice).mean()


@pytest.mark.parametrize("kind", KINDS)
@given(problem=problems(classes=3))
@settings(deadline=None, max_examples=20)
def test_the_loss_of_regions_is_that_of_the_voxels_that_are_not_ignored(kind, problem):
    logits, label, ignored = problem
    masked = RegionLoss(kind, MEMBERS)(logits, label.masked_fill(ignored, IGNORED))
    if ignored.all():
        assert float(masked) == 0
        return
    assert close(masked, region_loss_by_formula(kind, *unmasked(logits, label, ignored)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regions", [False, True])
@given(problem=problems(), known=st.lists(st.booleans(), min_size=3, max_size=3), data=st.data())
@settings(deadline=None, max_examples=20)
def test_what_is_unknown_changes_neither_the_loss_nor_its_gradient(kind, regions, problem, known, data):
    logits, label, ignored = problem
    loss = RegionLoss(kind, MEMBERS) if regions else MaskedLabelLoss(kind)
    logits = logits[:, 1:] if regions else logits
    flags = torch.tensor([known] * len(logits))
    if not regions:  # a label map has no voxel of a label with which its case is not labelled
        for index, is_known in enumerate(known, start=1):
            label = label if is_known else label.masked_fill(label == index, 0)
    target = label.masked_fill(ignored, IGNORED)
    logits = logits.clone().requires_grad_()
    value = loss(logits, target, flags)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert not gradient.movedim(1, -1)[ignored].any()
    other = logits.detach() + 5 * torch.randn(logits.shape) * ignored.unsqueeze(1)
    if regions:
        unknown = torch.tensor(known).logical_not().nonzero().flatten()
        assert not gradient[:, unknown].any()
        other[:, unknown] += torch.randn(other[:, unknown].shape)
    assert close(loss(other, target, flags), value.detach())


@given(problem=problems(), known=st.lists(st.booleans(), min_size=3, max_size=3))
@settings(deadline=None, max_examples=20)
def test_labels_that_are_unknown_count_as_background(problem, known):
    """The loss is that of a network with fewer outputs, whose background has the probabilities of the unknown ones."""
    logits, label, _ = problem
    kept = [0, *(index for index, is_known in enumerate(known, start=1) if is_known)]
    chances = logits.double().softmax(1)
    merged = chances[:, kept].clone()
    merged[:, 0] = 1 - merged[:, 1:].sum(1)
    found = with_unknown_in_background(logits, torch.tensor([known] * len(logits))).softmax(1)
    assert torch.allclose(found[:, kept].double(), merged, atol=1e-5)
    lookup = torch.tensor([kept.index(index) if index in kept else 0 for index in range(4)])
    value = MaskedLabelLoss("ce")(logits, torch.tensor(kept)[lookup[label]], torch.tensor([known] * len(logits)))
    expected = -merged.gather(1, lookup[label][:, None]).clamp(min=1e-12).log().mean()
    assert float(value) == pytest.approx(float(expected), rel=1e-3, abs=1e-4)


def test_each_case_of_a_batch_has_its_own_labels():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 4), torch.randint(0, 2, (2, 4, 4))
    known = torch.tensor([[True, False], [True, True]])
    loss = MaskedLabelLoss("ce")
    alone = [loss(logits[[at]], label[[at]], known[[at]]) for at in (0, 1)]
    assert close(loss(logits, label, known), sum(alone) / 2)
    assert not close(loss(logits, label, known), loss(logits, label))


@pytest.mark.parametrize("loss", [MaskedLabelLoss("ce"), RegionLoss("ce", MEMBERS)])
def test_deep_supervision_brings_ignored_voxels_to_each_size(loss):
    torch.manual_seed(0)
    label = torch.randint(-1, 4, (2, 8, 8))
    fine, coarse = (torch.randn(2, 4 if isinstance(loss, MaskedLabelLoss) else 3, size, size) for size in (8, 4))
    expected = (2 * loss(fine, label) + loss(coarse, label[:, 1::2, 1::2])) / 3
    assert close(loss([fine, coarse], label), expected)


def test_half_precision_does_not_overflow():
    logits = torch.zeros(1, 3, 64, 64, 64, dtype=torch.float16)
    assert torch.isfinite(RegionLoss("dice_ce", MEMBERS)(logits, torch.ones(1, 64, 64, 64, dtype=torch.int64)))


def test_an_unknown_loss_is_refused():
    with pytest.raises(PlanError, match="loss='focal'; expected dice_ce or ce"):
        RegionLoss("focal", MEMBERS)


def test_labels_and_regions_are_smoothed_and_dice_is_taken_of_each_patch():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    settings_of = {"batch_dice": False, "label_smoothing": 0.2}
    assert close(
        MaskedLabelLoss("dice_ce", **settings_of)(logits, label),
        SegmentationLoss("dice_ce", **settings_of)(logits, label),
    )
    ignored = label.masked_fill(torch.rand(2, 5, 5) < 0.3, IGNORED)
    one = MaskedLabelLoss("ce", label_smoothing=0.2)
    valid = ignored != IGNORED
    expected = F.cross_entropy(logits.movedim(1, -1)[valid], ignored[valid], label_smoothing=0.2)
    assert close(one(logits, ignored), expected)
    truth = torch.tensor(MEMBERS, dtype=torch.float32)[label].movedim(-1, 1)
    smoothed = F.binary_cross_entropy_with_logits(logits[:, :3], truth * 0.8 + 0.1)
    assert close(RegionLoss("ce", MEMBERS, label_smoothing=0.2)(logits[:, :3], label), smoothed)
    by_patch = [RegionLoss("dice_ce", MEMBERS)(logits[[at], :3], label[[at]]) for at in (0, 1)]
    assert close(RegionLoss("dice_ce", MEMBERS, batch_dice=False)(logits[:, :3], label), sum(by_patch) / 2)
    with pytest.raises(
        PlanError, match=r"label_smoothing=0.2 with cases that are labelled in part.*set label_smoothing to 0"
    ):
        one(logits, label, torch.ones(2, 3, dtype=torch.bool))
