"""Resampling: what lies at a millimetre stays there, to the half voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import grids

from resvox.errors import VolumeError
from resvox.volumes import Grid, Volume, resample, resampling


@settings(deadline=None, max_examples=30)
@given(grid=st.one_of(grids(dims=2), grids(dims=3)), method=st.sampled_from(["linear", "nearest", "label"]))
def test_its_own_grid_changes_nothing(grid: Grid, method: str) -> None:
    array = np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.int16)
    same = resample(Volume.on_grid(array, grid), grid, interpolation=method)  # type: ignore[arg-type]
    np.testing.assert_array_equal(same.array, array)
    assert same.array.dtype == (np.float32 if method == "linear" else np.int16)
    moved = Grid(
        grid.shape,
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.world_mm([1e-9] * grid.spatial_dims),
        direction=grid.direction,
    )
    through_itk = resample(Volume.on_grid(array, grid), moved, interpolation=method, fill=None)  # type: ignore[arg-type]
    np.testing.assert_allclose(through_itk.array, array, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(source=grids(sizes=st.integers(6, 9)), target=grids(sizes=st.integers(3, 7)))
def test_a_ramp_through_the_world_stays_the_same_ramp(source: Grid, target: Grid) -> None:
    """Linear interpolation of a linear function of world position is exact: every half-voxel error would show."""
    centre = source.world_mm((np.array(source.shape) - 1) / 2)
    extent = np.array(target.shape) * target.spacing_mm
    scale = 0.4 * min(np.array(source.shape) * source.spacing_mm) / float(np.linalg.norm(extent))
    spacing_mm = tuple(scale * mm for mm in target.spacing_mm)  # small enough to lie inside the source
    target = Grid(target.shape, spacing_mm=spacing_mm, direction=target.direction)
    target = Grid(
        target.shape,
        spacing_mm=spacing_mm,
        origin_mm=centre - target.world_mm((np.array(target.shape) - 1) / 2),
        direction=target.direction,
    )

    def ramp(grid: Grid) -> np.ndarray:
        index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
        return ((grid.world_mm(index) - centre) @ [1.0, 10.0, -3.0]).astype(np.float32)

    got = resample(Volume.on_grid(ramp(source), source), target).array
    np.testing.assert_allclose(got, ramp(target), atol=2e-2 * max(source.spacing_mm))


def test_doubling_the_resolution_samples_at_quarters() -> None:
    line = Volume(np.array([[0.0, 8.0, 16.0]]), spacing_mm=(1.0, 1.0))
    fine = Grid((1, 6), spacing_mm=(1.0, 0.5), origin_mm=(-0.25, 0.0))
    assert resample(line, fine, fill=None).array.tolist() == [[0.0, 2.0, 6.0, 10.0, 14.0, 16.0]]


def test_fill_beyond_half_a_voxel_or_the_edge_repeated() -> None:
    line = Volume(np.array([[5.0, 7.0]]), spacing_mm=(1.0, 1.0))
    wide = Grid((1, 6), spacing_mm=(1.0, 1.0), origin_mm=(-2.0, 0.0))
    assert resample(line, wide, fill=-9.0).array.tolist() == [[-9.0, -9.0, 5.0, 7.0, -9.0, -9.0]]
    assert resample(line, wide, fill=None).array.tolist() == [[5.0, 5.0, 5.0, 7.0, 7.0, 7.0]]
    labels = line.with_array(line.array.astype(np.uint8))
    assert resample(labels, wide, interpolation="label", fill=None).array.tolist() == [[5, 5, 5, 7, 7, 7]]
    assert resample(labels, wide, interpolation="label").array.tolist() == [[0, 0, 5, 7, 0, 0]]
    assert resample(labels, wide, interpolation="nearest", fill=3).array.tolist() == [[3, 3, 5, 7, 3, 3]]


def test_dust_in_a_direction_does_not_empty_the_image() -> None:
    """Numbers this small made ITK's matrix inverse fail, with a note on stderr and an image of zeros."""
    c, s = np.cos(0.5), np.sin(0.5)
    direction = np.array([[-1.0, 2.2e-311, 0.0], [-1.95e-311, -c, s], [-1.07e-311, -s, -c]])
    volume = Volume(np.full((4, 4, 4), 5.0, np.float32), spacing_mm=(2, 2, 2), direction=direction)
    finer = Grid((8, 8, 8), spacing_mm=(1, 1, 1), direction=direction, origin_mm=volume.grid.world_mm([-0.25] * 3))
    assert resample(volume, finer).array.min() == pytest.approx(5.0)
    assert np.asarray(volume.direction)[0, 1] == 0.0


def test_channels_are_resampled_each() -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    volume = Volume(array, spacing_mm=(2, 1, 1))
    target = Grid((8, 5, 3), spacing_mm=(1, 1, 2))
    got = resample(volume, target)
    assert got.array.shape == (3, 8, 5, 3)
    np.testing.assert_array_equal(got.array[1], resample(volume.with_array(array[1]), target).array)


@settings(deadline=None, max_examples=40)
@given(source=grids(sizes=st.integers(3, 7)), target=grids(sizes=st.integers(3, 7)), edge=st.booleans())
def test_labels_are_the_strongest_of_their_linear_masks(source: Grid, target: Grid, edge: bool) -> None:
    """Against the plain definition, every label over the whole grid."""
    array = np.random.default_rng(1).integers(0, 4, source.shape).astype(np.uint8)
    middles = [grid.world_mm((np.array(grid.shape) - 1) / 2) for grid in (source, target)]
    target = Grid(
        target.shape,
        spacing_mm=target.spacing_mm,
        origin_mm=np.array(target.origin_mm) + middles[0] - middles[1],
        direction=target.direction,
    )
    fill = None if edge else 0.0
    volume = Volume.on_grid(array, source)
    masks = [resample(volume.with_array((array == k).astype(np.float32)), target, fill=fill).array for k in range(4)]
    if not edge:
        masks[0] = 1.0 - np.sum(masks[1:], axis=0)
    got = resample(volume, target, interpolation="label", fill=fill).array
    strongest = np.max(masks, axis=0)
    chosen = np.take_along_axis(np.stack(masks), got[np.newaxis].astype(int), axis=0)[0]
    assert got.dtype == np.uint8
    assert (strongest - chosen).max() < 1e-3


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("side", [0, 1])
def test_labels_do_not_shift_where_nearest_does(factor: int, side: int) -> None:
    array = np.zeros((1, 40), np.uint8)
    array[0, 12:28] = 1
    array = array[:, ::-1] if side else array
    source = Volume(array, spacing_mm=(1.0, 1.0))
    coarse = Grid((1, 40 // factor), spacing_mm=(1.0, factor), origin_mm=((factor - 1) / 2, 0.0))
    labels = resample(source, coarse, interpolation="label", fill=None).array[0]
    centre = np.flatnonzero(labels).mean() * factor + (factor - 1) / 2
    assert centre == 19.5


def test_a_sheet_of_one_voxel_is_kept_at_half_the_resolution() -> None:
    array = np.zeros((1, 12), np.uint8)
    array[0, 7] = 4
    coarse = Grid((1, 6), spacing_mm=(1.0, 2.0), origin_mm=(0.5, 0.0))
    labels = resample(Volume(array, spacing_mm=(1.0, 1.0)), coarse, interpolation="label")
    assert labels.array.tolist() == [[0, 0, 0, 4, 0, 0]]


def test_a_label_reaches_half_a_voxel_beyond_its_centre_on_a_fine_grid() -> None:
    array = np.zeros((1, 5), np.uint8)
    array[0, 2] = 1
    fine = Grid((1, 50), spacing_mm=(1.0, 0.1), origin_mm=(-0.45, 0.0))
    labels = resample(Volume(array, spacing_mm=(1.0, 1.0)), fine, interpolation="label").array[0]
    assert np.flatnonzero(labels).tolist() == list(range(20, 30))


def test_blurring_before_coarse_sampling_keeps_the_mean_of_fine_detail() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (16, 32))
    volume = Volume(stripes, spacing_mm=(1.0, 1.0))
    coarse = Grid((16, 16), spacing_mm=(1.0, 4.0), origin_mm=(2.0, 0.0))
    assert resample(volume, coarse).array.max() == 0.0  # every fourth voxel: the stripes are gone
    blurred = resample(volume, coarse, antialias=True, fill=None).array
    assert np.abs(blurred[:, 2:-2] - 0.5).max() < 0.02


def test_blurring_touches_only_axes_that_lose_resolution() -> None:
    array = np.random.default_rng(0).normal(size=(6, 8, 8)).astype(np.float32)
    volume = Volume(array, spacing_mm=(4.0, 1.0, 1.0))
    finer = Grid((12, 8, 8), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(0.0, 0.0, -1.0))
    np.testing.assert_array_equal(
        resample(volume, finer, antialias=True).array, resample(volume, finer, antialias=False).array
    )


def test_bad_requests_are_refused() -> None:
    volume = Volume(np.zeros((2, 2, 2), np.float32), spacing_mm=(1, 1, 1))
    other = Grid((3, 3, 3), spacing_mm=(1, 1, 1))
    with pytest.raises(VolumeError, match=r"interpolation='cubic'; expected 'linear', 'nearest' or 'label'"):
        resample(volume, other, interpolation="cubic")  # type: ignore[arg-type]
    with pytest.raises(VolumeError, match=r"a 3-D volume to a 2-D grid"):
        resample(volume, Grid((3, 3), spacing_mm=(1, 1)))
    with pytest.raises(VolumeError, match=r"a label map of type float32; expected whole numbers"):
        resample(volume, other, interpolation="label")


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    target=st.tuples(*[st.integers(1, 12)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.5, 4.0)] * 3),
    shift=st.floats(-3.0, 3.0),
    antialias=st.booleans(),
)
def test_axis_by_axis_is_what_itk_makes_of_the_blurred_volume(shape, target, spacing_mm, shift, antialias):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    source = Volume(array, spacing_mm=(1.0, 2.0, 1.5), origin_mm=(3.0, -2.0, 7.0))
    grid = Grid(target, spacing_mm=spacing_mm, origin_mm=tuple(np.array([3.0, -2.0, 7.0]) + shift))
    matrices = resampling.axis_matrices(source.grid, grid, fill=None, antialias=antialias)
    blurred = resampling._blurred(source, grid) if antialias else source
    expected = resampling._execute(blurred, grid, "linear", None)
    made = resampling.apply_matrices(array, matrices)
    # More than half a voxel outside along one axis, ITK takes the nearest voxel along the others as well.
    places = source.grid.index(grid.world_mm(np.stack(np.indices(target), axis=-1)))
    inside = ((places > -0.499) & (places < np.array(shape) - 0.501)).all(axis=-1)
    np.testing.assert_allclose(made[inside], expected[inside], atol=2e-5)
    assert made.min() >= array.min() - 1e-5
    assert made.max() <= array.max() + 1e-5


def test_axes_that_are_not_parallel_and_targets_outside_are_left_to_itk():
    grid = Grid((5, 5, 5), spacing_mm=(1.0,) * 3)
    angle = 0.01
    turned = np.array([[0, -np.sin(angle), np.cos(angle)], [0, np.cos(angle), np.sin(angle)], [1, 0, 0]])
    oblique = Grid((5, 5, 5), spacing_mm=(1.0,) * 3, direction=turned)
    beyond = Grid((9, 5, 5), spacing_mm=(1.0,) * 3)
    assert resampling.axis_matrices(grid, oblique, fill=None, antialias=False) is None
    assert resampling.axis_matrices(grid, beyond, fill=0.0, antialias=False) is None
    assert resampling.axis_matrices(grid, beyond, fill=None, antialias=False) is not None
    far = resample(Volume.on_grid(np.ones(grid.shape, np.float32), grid), beyond, fill=-7.0)
    assert set(np.unique(far.array)) == {-7.0, 1.0}


def test_threads_share_the_planes_of_a_large_volume(monkeypatch):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(9, 20, 30)).astype(np.float32)
    matrices = [rng.normal(size=(size + 3, size)).astype(np.float32) for size in array.shape]
    alone = resampling.apply_matrices(array, matrices)
    monkeypatch.setattr(resampling, "THREADED_VOXELS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    np.testing.assert_array_equal(resampling.apply_matrices(array, matrices), alone)
    expected = np.einsum("abc,xa,yb,zc->xyz", array, *matrices, optimize=True)
    np.testing.assert_allclose(alone, expected, rtol=1e-3, atol=1e-3)
