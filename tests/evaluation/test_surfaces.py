"""MONAI's numbers against arithmetic without it: every boundary voxel with every other one."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

from resvox.evaluation import score_case
from resvox.evaluation.surfaces import hd95_mm, surface_dice, surface_distances_mm
from resvox.volumes import Volume

SPACING = st.sampled_from([0.7, 1.0, 2.5, 3.05, 10.0])


def brute_boundary(mask):
    """Indices of mask voxels with a face neighbour outside of the mask or of the image."""
    found = []
    for index in itertools.product(*map(range, mask.shape)):
        if not mask[index]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            near = list(index)
            near[axis] += step
            inside = 0 <= near[axis] < mask.shape[axis]
            if not inside or not mask[tuple(near)]:
                found.append(index)
                break
    return found


def brute_distances(ours, theirs, spacing_mm):
    return sorted(
        min(sum(((a - b) * s) ** 2 for a, b, s in zip(p, q, spacing_mm, strict=True)) ** 0.5 for q in theirs)
        for p in ours
    )


def brute_percentile(values, percent):
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def brute_scores(prediction, reference, spacing_mm, tolerance_mm):
    ours, theirs = brute_boundary(prediction), brute_boundary(reference)
    there, back = brute_distances(ours, theirs, spacing_mm), brute_distances(theirs, ours, spacing_mm)
    near = sum(distance <= tolerance_mm + 1e-5 for distance in there + back)
    return (
        2 * int((prediction & reference).sum()) / int(prediction.sum() + reference.sum()),
        max(brute_percentile(there, 95), brute_percentile(back, 95)),
        near / len(there + back),
    )


@st.composite
def mask_pairs(draw):
    shape = draw(st.one_of(st.tuples(*[st.integers(1, 7)] * 2), st.tuples(*[st.integers(1, 4)] * 3)))
    first, second = (draw(hnp.arrays(bool, shape)) for _ in range(2))
    assume(first.any() and second.any())
    return first, second, tuple(draw(SPACING) for _ in shape)


def as_slice(prediction, reference, spacing_mm):
    """A volume of one slice as the slice, which is how it is scored."""
    if prediction.ndim < 3 or 1 not in prediction.shape:
        return prediction, reference, spacing_mm
    axis = prediction.shape.index(1)
    return prediction.squeeze(axis), reference.squeeze(axis), spacing_mm[:axis] + spacing_mm[axis + 1 :]


@settings(deadline=None, max_examples=120)
@given(mask_pairs(), st.sampled_from([0.0, 0.7, 1.0, 2.0, 3.05, 12.0]))
def test_every_number_is_the_brute_force_one(pair, tolerance_mm):
    prediction, reference, spacing_mm = pair
    score = score_case(
        Volume(prediction.astype(np.uint8), spacing_mm=spacing_mm),
        Volume(reference.astype(np.uint8), spacing_mm=spacing_mm),
        {"thing": 1},
        tolerance_mm=tolerance_mm,
    )["thing"]
    expected = brute_scores(*as_slice(prediction, reference, spacing_mm), tolerance_mm)
    np.testing.assert_allclose((score.dice, score.hd95_mm, score.surface_dice), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@settings(deadline=None, max_examples=40)
@given(mask_pairs(), st.sampled_from([0.0, 1.0, 3.05]))
def test_every_number_is_what_monais_metrics_give_for_whole_volumes(pair, tolerance_mm):
    prediction, reference, spacing_mm = pair
    score = score_case(
        Volume(prediction.astype(np.uint8), spacing_mm=spacing_mm),
        Volume(reference.astype(np.uint8), spacing_mm=spacing_mm),
        {"thing": 1},
        tolerance_mm=tolerance_mm,
    )["thing"]
    *masks, spacing_mm = as_slice(prediction, reference, spacing_mm)
    ours, theirs = (torch.from_numpy(mask[None, None]) for mask in masks)
    options = {"include_background": True, "spacing": spacing_mm}
    dice = compute_dice(ours.float(), theirs.float(), include_background=True).item()
    hd95 = compute_hausdorff_distance(ours, theirs, percentile=95, **options).item()
    near = compute_surface_dice(ours, theirs, [tolerance_mm], **options).item()
    np.testing.assert_allclose((score.dice, score.surface_dice), (dice, near), rtol=1e-6)
    # MONAI finds the percentile's place among the distances in float32, ours in float64.
    assert score.hd95_mm == pytest.approx(hd95, abs=1e-4)


def test_by_hand_two_lines_of_voxels():
    # Row of 4 against a row of 2 that is one voxel (2 mm) shorter at both ends; every voxel is boundary.
    prediction = np.array([[0, 1, 1, 1, 1, 0]], bool)
    reference = np.array([[0, 0, 1, 1, 0, 0]], bool)
    there, back = surface_distances_mm(prediction, reference, (5.0, 2.0))
    assert sorted(there.tolist()) == [0, 0, 2, 2]
    assert back.tolist() == [0, 0]
    assert hd95_mm(there, back) == 2
    assert surface_dice(there, back, 1.9) == 4 / 6
    assert surface_dice(there, back, 2.0) == 1


def test_hd95_is_the_larger_directed_percentile_not_that_of_the_pool():
    # 19 perfect voxels and one 30 mm off one way; one voxel alone the other way.
    there = np.array([0.0] * 19 + [30.0], np.float32)
    back = np.array([0.0] * 100, np.float32)
    assert hd95_mm(there, back) == pytest.approx(1.5)  # at place 19 * 0.95 = 18.05 of 0, ..., 0, 30
    assert hd95_mm(back, there) == pytest.approx(1.5)
    assert np.percentile(np.concatenate([there, back]), 95) == 0  # what pooling would have said


def test_spacing_goes_with_the_arrays_axes():
    prediction, reference = np.zeros((2, 5, 5, 5), bool)
    reference[1, 1, 1] = True
    for axis, step in enumerate((10.0, 3.0, 0.5)):
        moved = [1, 1, 1]
        moved[axis] = 3
        prediction[:] = False
        prediction[tuple(moved)] = True
        there, back = surface_distances_mm(prediction, reference, (10.0, 3.0, 0.5))
        assert hd95_mm(there, back) == 2 * step


def test_a_distance_equal_to_the_tolerance_counts_whatever_its_binary_digits():
    prediction, reference = np.zeros((2, 1, 6), bool)
    reference[0, 1] = prediction[0, 4] = True
    there, back = surface_distances_mm(prediction, reference, (1.0, 0.1))  # 3 * 0.1 is not 0.3 in binary
    assert surface_dice(there, back, 0.3) == 1
    assert surface_dice(there, back, 0.29) == 0
