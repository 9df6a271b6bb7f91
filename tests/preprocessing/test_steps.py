"""Each geometric step and its exact way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import grids

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing import Crop, Pad, Reorient, Respace, nonzero_box, respaced
from resvox.preprocessing.respace import SAME_SPACING
from resvox.volumes import Grid

CODES_3D = ["SPL", "RAS", "IAR", "LPS", "PIR", "ASL"]


def world_ramp(grid: Grid) -> np.ndarray:
    """World coordinates of each voxel as channels, (x y z, *spatial): what stays in place keeps its number."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return np.moveaxis(grid.world_mm(index), -1, 0)


@settings(deadline=None, max_examples=50)
@given(grid=grids(), codes=st.sampled_from(CODES_3D))
def test_reorienting_moves_no_voxel_in_the_world(grid: Grid, codes: str) -> None:
    step = Reorient(source=grid, codes=codes)
    ramp = world_ramp(grid)
    np.testing.assert_allclose(step.forward(ramp, "image"), world_ramp(step.target), atol=1e-9)
    np.testing.assert_array_equal(step.inverse(step.forward(ramp, "labels"), "labels"), ramp)
    assert step.target.axis_codes == codes


@settings(deadline=None, max_examples=20)
@given(grid=grids(dims=2), codes=st.sampled_from(["PL", "LA", "RP"]))
def test_reorienting_works_in_2d(grid: Grid, codes: str) -> None:
    step = Reorient(source=grid, codes=codes)
    ramp = world_ramp(grid)
    np.testing.assert_allclose(step.forward(ramp, "image"), world_ramp(step.target), atol=1e-9)
    np.testing.assert_array_equal(step.inverse(step.forward(ramp, "image"), "image"), ramp)


def test_reorienting_to_its_own_codes_changes_nothing() -> None:
    grid = Grid((2, 3, 4), spacing_mm=(1, 2, 3), origin_mm=(4, 5, 6))
    assert Reorient(source=grid, codes="SPL").target == grid


@pytest.mark.parametrize("codes", ["XYZ", "SSL", "RLS", "S", "SPLA", "", 3])
def test_what_is_no_orientation_is_refused(codes: str) -> None:
    with pytest.raises(PlanError, match=r"orientation=.*; expected where each array axis points, such as 'SPL'"):
        Reorient(source=Grid((2, 2, 2), spacing_mm=(1, 1, 1)), codes=codes)


def test_an_image_cannot_take_the_orientation_of_a_volume() -> None:
    with pytest.raises(VolumeError, match="a 2-D image with axes PL; expected axes that can become SPL"):
        Reorient(source=Grid((2, 2), spacing_mm=(1, 1)), codes="SPL")


@settings(deadline=None, max_examples=40)
@given(grid=st.one_of(grids(), grids(dims=2)), seed=st.integers(0, 99))
def test_cropping_keeps_places_and_gives_the_rest_to_background(grid: Grid, seed: int) -> None:
    random = np.random.default_rng(seed)
    start = tuple(int(random.integers(0, n)) for n in grid.shape)
    stop = tuple(int(random.integers(a + 1, n + 1)) for a, n in zip(start, grid.shape, strict=True))
    step = Crop(source=grid, start=start, stop=stop)
    np.testing.assert_allclose(step.forward(world_ramp(grid), "image"), world_ramp(step.target), atol=1e-9)
    labels = random.integers(1, 9, (1, *grid.shape))
    back = step.inverse(step.forward(labels, "labels"), "labels")
    np.testing.assert_array_equal(back[step.box], labels[step.box])
    assert np.count_nonzero(back) == np.prod(step.target.shape)


def test_scores_outside_a_crop_say_background() -> None:
    grid = Grid((1, 4), spacing_mm=(1, 1))
    step = Crop(source=grid, start=(0, 1), stop=(1, 3))
    logits = np.array([[[-7.0, 2.0]], [[3.0, -1.0]], [[-2.0, -4.0]]], np.float32)
    back = step.inverse(logits, "scores")
    assert back[:, 0].argmax(axis=0).tolist() == [0, 1, 0, 0]
    assert back[:, 0, 0].tolist() == [3.0, -1.0, -4.0]
    single = step.inverse(np.array([[[-7.0, 2.0]]], np.float32), "scores")
    assert single[0, 0].tolist() == [-7.0, -7.0, 2.0, -7.0]


def test_a_box_outside_the_image_is_refused() -> None:
    grid = Grid((3, 4), spacing_mm=(1, 1))
    for start, stop in [((0, 0), (3, 5)), ((-1, 0), (3, 4)), ((2, 2), (2, 3)), ((0,), (1,))]:
        with pytest.raises(VolumeError, match=r"a box from .*; expected one inside \(3, 4\) voxels"):
            Crop(source=grid, start=start, stop=stop)


def test_the_nonzero_box_spans_all_channels() -> None:
    array = np.zeros((2, 5, 6, 7))
    assert nonzero_box(array) == ((0, 0, 0), (5, 6, 7))
    array[0, 1, 2, 3], array[1, 3, 2, 5] = -1.0, 4.0
    assert nonzero_box(array) == ((1, 2, 3), (4, 3, 6))


@settings(deadline=None, max_examples=40)
@given(grid=st.one_of(grids(), grids(dims=2)), least=st.integers(1, 12))
def test_padding_keeps_places_and_comes_off_again(grid: Grid, least: int) -> None:
    step = Pad(source=grid, minimum_size=(least,) * grid.spatial_dims)
    assert step.target.shape == tuple(max(least, n) for n in grid.shape)
    labels = np.random.default_rng(0).integers(1, 9, (1, *grid.shape))
    padded = step.forward(labels, "labels")
    assert np.count_nonzero(padded) == labels.size
    np.testing.assert_array_equal(step.inverse(padded, "labels"), labels)
    np.testing.assert_allclose(world_ramp(step.target)[step.box], world_ramp(grid), atol=1e-9)


def test_padding_an_image_is_air() -> None:
    step = Pad(source=Grid((1, 2), spacing_mm=(1, 1)), minimum_size=(1, 5))
    assert step.forward(np.array([[[-1.0, 3.0]], [[0.5, 0.25]]]), "image").tolist() == [
        [[-1.0, -1.0, 3.0, -1.0, -1.0]],
        [[0.25, 0.5, 0.25, 0.25, 0.25]],
    ]


@settings(deadline=None, max_examples=60)
@given(grid=st.one_of(grids(), grids(dims=2)), new=st.floats(0.3, 8.0))
def test_a_new_spacing_covers_the_same_box_of_the_world(grid: Grid, new: float) -> None:
    target = respaced(grid, (new,) * grid.spatial_dims)
    # within a millionth the old spacing is kept: it is what a float32 header makes of the new one
    assert target.spacing_mm == tuple(old if abs(new / old - 1) <= SAME_SPACING else new for old in grid.spacing_mm)
    for size, count, old in zip(grid.shape, target.shape, grid.spacing_mm, strict=True):
        assert count == max(1, int(np.floor(size * old / new + 0.5)))
    middle = [g.world_mm((np.array(g.shape) - 1) / 2) for g in (grid, target)]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-9)
    np.testing.assert_array_equal(target.direction, grid.direction)


def test_the_same_spacing_is_the_same_grid() -> None:
    grid = Grid((4, 5, 6), spacing_mm=(3.0, 0.9765625, 0.9765625), origin_mm=(1, 2, 3))
    assert respaced(grid, grid.spacing_mm) == grid
    assert respaced(grid, (3.0, 0.97656253, 0.97656253)) == grid
    array = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(Respace(source=grid, spacing_mm=grid.spacing_mm).forward(array, "image"), array)


@settings(deadline=None, max_examples=25)
@given(grid=grids(sizes=st.integers(8, 12), spacings=st.floats(0.5, 2.0)), new=st.floats(0.4, 2.5))
def test_respaced_voxels_stay_where_they_are(grid: Grid, new: float) -> None:
    step = Respace(source=grid, spacing_mm=(new,) * 3)
    moved = step.forward(world_ramp(grid).astype(np.float32), "image")
    expected = world_ramp(step.target)
    margin = [1 + int(np.ceil(2.5 * max(old, new) / new)) for old in grid.spacing_mm]  # the blur sees the edge
    core = (slice(None), *(slice(m, n - m) for m, n in zip(margin, step.target.shape, strict=True)))
    np.testing.assert_allclose(moved[core], expected[core], atol=0.02 * max(new, *grid.spacing_mm))


@settings(deadline=None, max_examples=25)
@given(grid=grids(), new=st.floats(0.3, 8.0))
def test_the_edge_of_the_image_is_repeated_and_not_blackened(grid: Grid, new: float) -> None:
    step = Respace(source=grid, spacing_mm=(new,) * 3)
    full = np.full((1, *grid.shape), 3, np.uint8)
    for kind in ("labels", "scores", "image"):
        there = step.forward(full, kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(there, 3.0, rtol=1e-5)
        np.testing.assert_allclose(step.inverse(there, kind), 3.0, rtol=1e-5)  # type: ignore[arg-type]


def test_the_number_of_spacings_must_fit() -> None:
    with pytest.raises(VolumeError, match=r"a 2-D image for spacing_mm \(1.0, 1.0, 1.0\); expected 3 dimensions"):
        respaced(Grid((2, 2), spacing_mm=(1, 1)), (1.0, 1.0, 1.0))
    with pytest.raises(VolumeError, match=r"a 2-D image for minimum_size \(1, 1, 1\)"):
        Pad(source=Grid((2, 2), spacing_mm=(1, 1)), minimum_size=(1, 1, 1))
