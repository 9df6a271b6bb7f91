"""Augmentation: what it may do, what it must not, and that image and label move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resvox.training import Plan
from resvox.training.augmentation import Augmentation
from resvox.training.augmentation.geometry import rotation_matrix
from resvox.training.augmentation.transforms import without_some_channels

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
    geometry = augment.draw(rng)
    assert geometry.size == PATCH
    image, label = pair(PATCH)
    moved, moved_label = augment(image, label, rng, geometry)
    assert torch.equal(moved, image)
    assert torch.equal(moved_label, label)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_the_axes_of_the_plan_are_mirrored(axis):
    augment = augmentation_of(plan_of(augmentation="light", mirror_axes=(axis,)))
    image, label = pair(PATCH)
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        _, moved = augment(image, label, rng, augment.draw(rng))
        assert torch.equal(moved, label) or torch.equal(moved, label.flip(axis + 1))
        seen.add(torch.equal(moved, label))
    assert seen == {True, False}


def test_rotation_keeps_image_and_label_together():
    augment = augmentation_of(plan_of(augmentation="default"))
    augment.intensity = []
    rotated = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        geometry = augment.draw(rng)
        rotated += geometry.size != PATCH
        image, label = pair(geometry.size)
        moved, moved_label = augment(image, label, rng, geometry)
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
    rotations = augment.mover.affine.rand_affine.rand_affine_grid.rotate_range
    assert rotations[0] > 0
    assert list(rotations[1:]) == [0, 0]


def test_images_of_two_dimensions():
    plan = Plan(spatial_dims=2, patch_size=(16, 16), strides=(1,) * 5, augmentation="default", mirror_axes=(0, 1))
    augment = Augmentation(plan, plan.patch_size)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        geometry = augment.draw(rng)
        image, label = torch.rand(1, *geometry.size), torch.ones(1, *geometry.size, dtype=torch.uint8)
        moved, moved_label = augment(image, label, rng, geometry)
        assert moved.shape == moved_label.shape == (1, 16, 16)
        assert torch.isfinite(moved).all()


def moved_by(augment, rng):
    geometry = augment.draw(rng)
    image, label = pair(geometry.size)
    return geometry, *augment(image, label, rng, geometry)


def test_the_strength_of_nnunet_turns_and_scales_a_fifth_each():
    augment = augmentation_of(plan_of(augmentation="nnunet", patch_size=(16, 16, 16)))
    augment.intensity = []
    drawn = [augment.draw(np.random.default_rng(seed)) for seed in range(600)]
    turned = [each for each in drawn if each.rotation and any(each.rotation)]
    scaled = [each for each in drawn if each.zoom and each.zoom != (1.0, 1.0, 1.0)]
    assert 85 < len(turned) < 155  # 120 on average
    assert 85 < len(scaled) < 155
    degrees = np.degrees([each.rotation for each in turned])
    assert 25 < np.abs(degrees).max() <= 30
    assert all(len(set(each.zoom)) == 1 and 0.7 <= each.zoom[0] <= 1.4 for each in scaled)
    assert min(each.zoom[0] for each in scaled) < 0.8 < 1.3 < max(each.zoom[0] for each in scaled)


def test_the_strength_of_nnunet_moves_image_and_label_together_and_cuts_what_it_needs():
    augment = augmentation_of(plan_of(augmentation="nnunet", patch_size=(16, 16, 16)))
    augment.intensity = []
    moved = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        geometry, image, label = moved_by(augment, rng)
        assert image.shape == label.shape == (1, 16, 16, 16)
        assert all((size - 16) % 2 == 0 for size in geometry.size)
        if geometry.rotation is None:
            continue
        moved += 1
        assert ((image > 0) == (label > 0)).float().mean() > 0.97
        # a corner of the patch is taken from inside of what was cut: no zeros come in
        ones, _ = augment(torch.ones(1, *geometry.size), torch.ones(1, *geometry.size), rng, geometry)
        assert ones[0, 1:-1, 1:-1, 1:-1].min() > 0.99
    assert moved > 5


def test_flat_patches_are_turned_in_their_planes_alone():
    augment = augmentation_of(plan_of(augmentation="nnunet", patch_size=(32, 8, 32), spacing_mm=(1.0, 5.0, 1.0)))
    assert augment.mover.flat_axis == 1
    drawn = [augment.draw(np.random.default_rng(seed)) for seed in range(200)]
    turned = [each.rotation for each in drawn if each.rotation and any(each.rotation)]
    assert turned
    assert all(each[0] == each[2] == 0 for each in turned)
    assert np.abs(np.degrees(turned)).max() > 90
    assert all(each.zoom[1] == 1 and each.size[1] == 8 for each in drawn if each.zoom)
    image = torch.rand(1, 32, 8, 32)
    low = augment.intensity[4]
    changed = low.transform(image, np.random.default_rng(0))
    assert changed.shape == image.shape
    # each plane is changed from its own values alone
    other = image.clone()
    other[:, :, 0] = 9
    assert torch.equal(low.transform(other, np.random.default_rng(0))[:, :, 1:], changed[:, :, 1:])


def test_the_matrix_of_rotations_is_that_of_monai():
    from monai.transforms.utils import create_rotate

    for angles in [(0.3, -0.7, 0.5), (0, 1, 0), (1.1, 0, 0)]:
        np.testing.assert_allclose(rotation_matrix(angles), create_rotate(3, angles)[:3, :3], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix((0.4,)), create_rotate(2, 0.4)[:2, :2], atol=1e-12)


def test_values_are_changed_as_often_as_by_nnunet_and_stay_in_their_range():
    augment = augmentation_of(plan_of(augmentation="nnunet", patch_size=(8, 8, 8)))
    rng = np.random.default_rng(0)
    image = torch.randn(4, 16, 16, 16)  # large enough that a mean over its voxels hardly varies
    changed = [0] * len(augment.intensity)
    for _ in range(300):
        for place, step in enumerate(augment.intensity):
            result = step(image, rng)
            changed[place] += not torch.equal(result, image)
            assert result.shape == image.shape
            assert torch.isfinite(result).all()
            if place in (3, 4, 5, 6):  # contrast and resolution keep the range; gamma keeps mean and deviation
                assert result.mean().item() == pytest.approx(image.mean().item(), abs=0.1)
    # of the samples, with four channels of which each one is blurred with the chance 0.5: 0.2 * (1 - 0.5 ** 4)
    expected = [0.1, 0.2 * 15 / 16, 0.15, 0.15, 0.25 * 15 / 16, 0.1, 0.3]
    assert [each / 300 for each in changed] == pytest.approx(expected, abs=0.08)


def test_some_channels_are_left_out_and_never_all():
    rng = np.random.default_rng(0)
    image = torch.ones(3, 2, 2, 2)
    kept = [tuple(without_some_channels(image, 0.5, rng).amax((1, 2, 3)).tolist()) for _ in range(400)]
    assert (0.0, 0.0, 0.0) not in kept
    assert len(set(kept)) == 7
    augment = augmentation_of(
        plan_of(augmentation="none", channel_dropout=0.9, in_channels=2, normalization=({"kind": "zscore"},) * 2)
    )
    generator = np.random.default_rng(1)
    out, label = augment(torch.ones(2, *PATCH), torch.ones(1, *PATCH), generator, augment.draw(generator))
    assert sorted(out.amax((1, 2, 3)).tolist()) == [0, 1]
    assert label.min() == 1
