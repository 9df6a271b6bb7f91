"""The grid: arguments that are rejected, and world <-> index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import grids

from resvox.errors import VolumeError
from resvox.volumes import Grid, Volume


def test_default_geometry_is_the_identity_of_itk() -> None:
    grid = Grid((2, 3, 4), spacing_mm=(3.0, 2.0, 1.0))
    assert grid.axis_codes == "SPL"
    # D grows along world z, H along y, W along x
    np.testing.assert_array_equal(grid.world_mm([1, 1, 1]), [1.0, 2.0, 3.0])


def test_world_is_origin_plus_direction_times_index_times_spacing() -> None:
    direction = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    grid = Grid((4, 5, 6), spacing_mm=(3.0, 2.0, 0.5), origin_mm=(1, 2, 3), direction=direction)
    index = np.array([2, 1, 4])
    expected = grid.origin_mm + grid.direction @ (index * grid.spacing_mm)
    np.testing.assert_allclose(grid.world_mm(index), expected)
    np.testing.assert_allclose(expected, [-1.0, 4.0, -3.0])
    assert grid.axis_codes == "IRP"


@settings(deadline=None, max_examples=50)
@given(grid=st.one_of(grids(dims=2), grids(dims=3)), seed=st.integers(0, 99))
def test_index_undoes_world(grid: Grid, seed: int) -> None:
    index = np.random.default_rng(seed).uniform(-5, 20, (7, grid.spatial_dims))
    np.testing.assert_allclose(grid.index(grid.world_mm(index)), index, atol=1e-8)


def test_axis_codes_use_each_world_axis_once_even_near_45_degrees() -> None:
    c, s = np.cos(0.8), np.sin(0.8)
    direction = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    codes = Grid((2, 2, 2), spacing_mm=(1, 1, 1), direction=direction).axis_codes
    assert sorted({"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}[code] for code in codes) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm (1.0, 0.0, 1.0); expected numbers above 0 mm"),
        ({"spacing_mm": (1.0, -2.0, 1.0)}, "expected numbers above 0 mm"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "expected 3 finite numbers"),
        ({"spacing_mm": (1.0, 1.0)}, "expected 3 finite numbers"),
        ({"origin_mm": (0.0, float("inf"), 0.0)}, "origin_mm"),
        ({"shape": (0, 2, 2)}, "2 or 3 axes of at least 1 voxel"),
        ({"shape": (2, 2, 2, 2)}, "2 or 3 axes of at least 1 voxel"),
        ({"direction": np.eye(3) * 1.1}, "sheared or scaled"),
        ({"direction": [[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]}, "at right angles"),
        ({"direction": np.eye(2)}, "expected 9 finite numbers"),
    ],
)
def test_what_is_no_lattice_is_refused(changes: dict[str, object], text: str) -> None:
    good = {"shape": (2, 3, 4), "spacing_mm": (1.0, 1.0, 1.0)}
    with pytest.raises(VolumeError) as caught:
        Grid(**{**good, **changes})  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_matches_forgives_last_digits_and_nothing_more() -> None:
    grid = Grid((10, 10, 10), spacing_mm=(1.0, 1.0, 1.0))
    assert grid.matches(Grid((10, 10, 10), spacing_mm=(1.00001, 1.0, 1.0), origin_mm=(0.001, 0, 0)))
    assert not grid.matches(Grid((10, 10, 10), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.5, 0, 0)))
    assert not grid.matches(Grid((10, 10, 10), spacing_mm=(1.05, 1.0, 1.0)))  # 0.45 mm off at the far corner
    assert not grid.matches(Grid((10, 10, 11), spacing_mm=(1.0, 1.0, 1.0)))


def test_equal_grids_are_equal_and_hash_alike() -> None:
    one = Grid((2, 2, 2), spacing_mm=(1, 1, 1), origin_mm=(0.0, 0.0, 0.0))
    other = Grid((2, 2, 2), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(-0.0, 0.0, 0.0))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Grid((2, 2, 2), spacing_mm=(1.0, 1.0, 1.0 + 1e-12))


def test_a_grid_cannot_be_changed() -> None:
    grid = Grid((2, 2, 2), spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError):
        grid.direction[0, 0] = 5.0
    with pytest.raises(AttributeError):
        grid.shape = (1, 1, 1)  # type: ignore[misc]


def test_channels_are_told_from_depth_by_the_number_of_spacings() -> None:
    array = np.zeros((3, 4, 5), np.float32)
    scan, picture = Volume(array, spacing_mm=(1, 1, 1)), Volume(array, spacing_mm=(1, 1))
    assert (scan.spatial_dims, scan.channels, scan.grid.shape) == (3, 1, (3, 4, 5))
    assert (picture.spatial_dims, picture.channels, picture.grid.shape) == (2, 3, (4, 5))
    assert scan.with_channel_axis().shape == (1, 3, 4, 5)
    assert picture.with_channel_axis().shape == (3, 4, 5)


def test_with_array_keeps_the_very_grid_and_refuses_another_shape() -> None:
    volume = Volume(np.zeros((3, 4, 5)), spacing_mm=(1, 2, 3), origin_mm=(5, 6, 7))
    assert volume.with_array(np.ones((2, 3, 4, 5))).grid is volume.grid
    with pytest.raises(VolumeError, match=r"array of shape \(3, 4, 6\); expected spatial axes of \(3, 4, 5\)"):
        volume.with_array(np.zeros((3, 4, 6)))


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((1, 1, 2, 2, 2)), np.zeros((2, 2, 2), complex)])
def test_arrays_that_are_no_image_are_refused(array: np.ndarray) -> None:
    with pytest.raises(VolumeError, match="spatial axes"):
        Volume(array, spacing_mm=(1, 1, 1))
