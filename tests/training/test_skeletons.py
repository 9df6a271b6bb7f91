"""The skeleton recall term of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resvox.errors import PlanError
from resvox.training import Plan
from resvox.training.losses import SegmentationLoss
from resvox.training.segmentation.skeletons import SkeletonRecall, skeletons


def tube(shape=(16, 9, 9)):
    label = torch.zeros(1, *shape, dtype=torch.long)
    label[:, :, 2:7, 2:7] = 1
    return label


def logits_of(label, gain=20.0):
    return torch.stack([label == 0, label == 1], dim=1).float() * gain


def test_skeletons_are_thin_and_inside_their_masks():
    mask = tube() == 1
    found = skeletons(mask)
    assert found.shape == mask.shape
    assert ((found > 0) <= mask).all()
    assert 0 < found.sum() < mask.sum() / 2
    flat = skeletons(mask[:, :, :, 4])
    assert flat.shape == (1, 16, 9)
    assert not skeletons(torch.zeros_like(mask)).any()


def test_a_gap_costs_more_with_the_term_and_nothing_without_labels():
    label = tube()
    loss = SkeletonRecall(SegmentationLoss("dice_ce"), 1.0)
    assert float(loss.recall(logits_of(label), label)) == pytest.approx(1.0, abs=1e-3)
    gap = label.clone()
    gap[:, 6:10] = 0
    assert float(loss.recall(logits_of(gap), label)) == pytest.approx(1 - 4 / 16, abs=0.1)
    without = SegmentationLoss("dice_ce")(logits_of(gap), label)
    assert float(loss(logits_of(gap), label) - without) == pytest.approx(0.25, abs=0.1)
    empty = torch.zeros_like(label)
    alone = SegmentationLoss("dice_ce")(logits_of(empty), empty)
    assert float(loss(logits_of(empty), empty)) == pytest.approx(float(alone))


def test_gradients_reach_the_skeleton_alone():
    label = tube()
    logits = torch.zeros(1, 2, *label.shape[1:], requires_grad=True)
    (1 - SkeletonRecall(SegmentationLoss("ce"), 1.0).recall(logits, label)).backward()
    touched = logits.grad[:, 1] != 0
    assert torch.equal(touched, skeletons(label == 1) > 0)
    assert np.isfinite(logits.grad.numpy()).all()


def test_the_weight_of_a_plan_is_not_negative():
    with pytest.raises(PlanError, match="skeleton_recall=-1"):
        Plan(skeleton_recall=-1.0)
