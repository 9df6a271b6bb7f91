"""Label maps as people have them: one slice, regions, ignored voxels, large values, another grid."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import EvaluationError
from resvox.evaluation import score_case, score_values
from resvox.volumes import Volume

PLANES = st.tuples(st.integers(0, 2**31), st.tuples(st.integers(3, 12), st.integers(3, 12)))
STEPS = st.floats(0.2, 5)


def blobs(seed, shape, values=(0, 1, 2)):
    """Two label maps of coarse squares, so that there are surfaces and not only noise."""
    rng = np.random.default_rng(seed)
    coarse = tuple(-(-n // 3) for n in shape)
    maps = []
    for _ in range(2):
        small = rng.choice(np.array(values), coarse)
        for axis in range(len(shape)):
            small = small.repeat(3, axis)
        maps.append(small[tuple(slice(n) for n in shape)])
    return maps


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return score_case(*arguments, **options)


@given(plane=PLANES, axis=st.integers(0, 2), steps=st.tuples(STEPS, STEPS, STEPS))
@settings(deadline=None, max_examples=25)
def test_a_volume_of_one_slice_scores_as_the_slice(plane, axis, steps):
    ours, theirs = blobs(*plane)
    flat = [Volume(array, spacing_mm=steps[:2]) for array in (ours, theirs)]
    spacing = (*steps[:axis], steps[2], *steps[axis:2])
    deep = [Volume(np.expand_dims(array, axis), spacing_mm=spacing) for array in (ours, theirs)]
    assert score_case(*deep, {"a": 1, "b": 2}) == score_case(*flat, {"a": 1, "b": 2})


def test_values_in_a_volume_of_one_slice_score_as_the_slice():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 14, 15)).astype(np.float32)
    flat = score_values(*(Volume(each, spacing_mm=(1, 1)) for each in (ours, theirs)))
    deep = score_values(*(Volume(each[:, None], spacing_mm=(1, 9, 1)) for each in (ours, theirs)))
    assert flat["value"].ssim is not None
    assert deep == flat


@given(seed=st.integers(0, 2**31), large=st.lists(st.integers(1, 2**50), min_size=3, max_size=3, unique=True))
@settings(deadline=None, max_examples=25)
def test_scores_do_not_depend_on_the_size_of_the_values(seed, large):
    ours, theirs = blobs(seed, (6, 7, 8), (0, 1, 2, 3))
    small = [Volume(each, spacing_mm=(1, 2, 3)) for each in (ours, theirs)]
    wanted = score_case(*small, {"a": 1, "b": 2, "c": 3})
    table = np.array([0, *large], np.int64)
    renamed = [Volume(table[each], spacing_mm=(1, 2, 3)) for each in (ours, theirs)]
    assert score_case(*renamed, dict(zip("abc", large, strict=True))) == wanted


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_a_region_scores_as_the_label_that_its_labels_make_together(seed):
    ours, theirs = blobs(seed, (6, 7, 8), (0, 1, 2, 3, 70000))
    maps = [Volume(each, spacing_mm=(1, 2, 3)) for each in (ours, theirs)]
    scores = quietly(*maps, {"background": 0, "whole": [1, 70000, 3], "core": 3})
    merged = [Volume(np.isin(each, (1, 3, 70000)).astype(np.uint8), spacing_mm=(1, 2, 3)) for each in (ours, theirs)]
    assert scores["whole"] == score_case(*merged, {"whole": 1})["whole"]
    assert scores["core"] == quietly(*maps, {"core": 3})["core"]


@pytest.mark.parametrize("value", [9, -1, 255])
def test_ignored_voxels_of_the_reference_change_no_score(label_map, boxes, value):
    prediction, reference = boxes
    wanted = score_case(label_map(prediction), label_map(reference), {"box": 1})["box"]
    scribbled, partial = prediction.copy(), reference.astype(np.int16)
    scribbled[:, 7:], partial[:, 7:] = 1, value
    with pytest.warns(UserWarning, match=rf"^r.nii: 160 voxels of the ignored value {value} are not scored$"):
        found = score_case(label_map(scribbled), label_map(partial), {"box": 1}, ignore=value, reference_path="r.nii")
    assert found["box"] == wanted
    if value > 0:
        assert quietly(label_map(scribbled), label_map(partial), {"box": 1, "ignore": value}) == {"box": wanted}


def test_values_of_the_reference_that_no_label_has_are_reported(label_map, boxes):
    prediction, reference = boxes
    below = np.where(reference == 0, -1, reference.astype(np.int16))
    with pytest.warns(UserWarning, match=r"^r.nii: values that no label has, not scored: -1 \(656 voxels\); --labels"):
        found = score_case(label_map(prediction), label_map(below), {"box": 1}, reference_path="r.nii")
    assert found == score_case(label_map(prediction), label_map(reference), {"box": 1})


def test_an_image_is_not_compared_with_a_volume():
    flat, deep = (
        Volume(np.ones((4, 5), np.uint8), spacing_mm=(1, 1)),
        Volume(np.ones((3, 4, 5), np.uint8), spacing_mm=(1, 1, 1)),
    )
    for resample in (False, True):
        with pytest.raises(EvaluationError, match=r"^p: a 2D prediction of shape \(4, 5\) for the 3D reference r "):
            score_case(flat, deep, {"a": 1}, resample_to_reference=resample, prediction_path="p", reference_path="r")


def test_values_on_another_grid_are_resampled_on_request():
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32), (6, 8, 12))
    reference = Volume(np.ascontiguousarray(ramp), spacing_mm=(1, 1, 1))
    half = Volume(np.ascontiguousarray(ramp[:, :, ::2]), spacing_mm=(1, 1, 2))
    with pytest.raises(EvaluationError, match="--resample"):
        score_values(half, reference)
    with pytest.warns(UserWarning, match=r"^prediction: resampled to the grid of its reference \(shape"):
        found = score_values(half, reference, resample_to_reference=True)["value"]
    assert found.mae < 0.1
