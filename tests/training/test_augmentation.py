"""Augmentation: what it may do, what it must not, and that image and label move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resvox.training import Plan
from resvox.training.augmentation import Augmentation

PATCH = (8, 16, 16)


def plan_of(**changes):
    return Plan(**{"patch_size": PATCH, "strides": (1, 1, 1, 1, 1), "spacing_mm": (1.0, 1.0, 1.0), **changes})


def augmentation_of(plan):
    return Augmentation(plan, plan.patch_size)


def pair(size):
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[:, : size[0] // 2, 2 : size[1] // 2, 3:] = 1
    return label.float() * 4 - 2, label


def test_none_changes_nothing():
    augment = augmentation_of(plan_of(augmentation="none", mirror_axes=(0, 1, 2)))
    rng = np.random.default_rng(0)
    assert augment.source_size(rng) == PATCH
    image, label = pair(PATCH)
    moved, moved_label = augment(image, label, rng)
    assert torch.equal(moved, image)
    assert torch.equal(moved_label, label)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_the_axes_of_the_plan_are_mirrored(axis):
    augment = augmentation_of(plan_of(augmentation="light", mirror_axes=(axis,)))
    image, label = pair(PATCH)
    seen = set()
    for seed in range(20):
        _, moved = augment(image, label, np.random.default_rng(seed))
        assert torch.equal(moved, label) or torch.equal(moved, label.flip(axis + 1))
        seen.add(torch.equal(moved, label))
    assert seen == {True, False}


def test_rotation_keeps_image_and_label_together():
    augment = augmentation_of(plan_of(augmentation="default"))
    augment.intensity = []
    rotated = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = augment.source_size(rng)
        rotated += size != PATCH
        image, label = pair(size)
        moved, moved_label = augment(image, label, rng)
        assert moved.shape == moved_label.shape == (1, *PATCH)
        assert type(moved) is torch.Tensor
        assert set(moved_label.unique().tolist()) <= {0, 1}
        # linear and nearest interpolation part only within a voxel of the edge
        agree = ((moved > 0) == (moved_label > 0)).float().mean()
        assert agree > 0.97
    assert 3 < rotated < 18


def test_thick_slices_are_rotated_in_their_plane_alone():
    augment = augmentation_of(plan_of(augmentation="default", spacing_mm=(5.0, 1.0, 1.0)))
    augment.intensity = []
    rotations = augment.affine.rand_affine.rand_affine_grid.rotate_range
    assert rotations[0] > 0
    assert list(rotations[1:]) == [0, 0]


def test_images_of_two_dimensions():
    plan = Plan(spatial_dims=2, patch_size=(16, 16), strides=(1,) * 5, augmentation="default", mirror_axes=(0, 1))
    augment = Augmentation(plan, plan.patch_size)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = augment.source_size(rng)
        image, label = torch.rand(1, *size), torch.ones(1, *size, dtype=torch.uint8)
        moved, moved_label = augment(image, label, rng)
        assert moved.shape == moved_label.shape == (1, 16, 16)
        assert torch.isfinite(moved).all()
