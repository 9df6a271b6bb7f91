"""The whole preprocessing: there, and back to exactly the grid of the scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import slicerio
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import grids

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing import Crop, Preprocessing, Window, ZScore, nonzero_mask
from resvox.volumes import Grid, Volume, read_volume, write_label_map, write_volume

Box = tuple[np.ndarray, np.ndarray]


def filled(shape: tuple[int, ...], boxes: dict[int, Box]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    for value, (start, stop) in boxes.items():
        labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return labels


def bounds(mask: np.ndarray) -> Box:
    found = np.argwhere(mask)
    return found.min(axis=0), found.max(axis=0) + 1


def target_spacing_of_source_axes(preprocessing: Preprocessing, grid: Grid) -> np.ndarray:
    """The target voxel along each SOURCE axis."""
    if preprocessing.spacing_mm is None:
        return np.array(grid.spacing_mm)
    pairs = [set("RL"), set("AP"), set("IS")]
    here = [next(k for k, pair in enumerate(pairs) if code in pair) for code in grid.axis_codes]
    there = [next(k for k, pair in enumerate(pairs) if code in pair) for code in preprocessing.orientation or ""]
    return np.array([preprocessing.spacing_mm[there.index(axis)] for axis in here])


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Preprocessing, Grid, dict[int, Box]]:
    """A preprocessing, a grid, and two boxes of different size, side by side off the middle, each at least
    four target voxels thick: mirrored, shifted or swapped they would not lie on themselves."""
    preprocessing = Preprocessing(
        orientation=draw(st.sampled_from(["SPL", "RAS", "PIR"])),
        spacing_mm=tuple(round(draw(st.floats(0.7, 2.5)), 2) for _ in range(3)),
        crop=draw(st.sampled_from(["none", "nonzero"])),
        normalization=(ZScore(),),
        minimum_size=draw(st.sampled_from([None, (30, 30, 30)])),
    )
    small = draw(grids(sizes=st.just(2), spacings=st.floats(0.7, 2.5)))
    target_mm = target_spacing_of_source_axes(preprocessing, small)
    thick = np.ceil(4.0 * target_mm / small.spacing_mm).astype(int) + draw(st.integers(0, 2))
    first = np.array([draw(st.integers(0, 3)) for _ in range(3)])
    middle = first + thick
    second_stop = middle.copy()
    second_stop[0] += thick[0] + 1
    second_start = np.array([middle[0], first[1], first[2]])
    middle[1:] += 2  # the first box is the wider one
    shape = np.maximum(second_stop, middle) + np.array([draw(st.integers(0, 6)) for _ in range(3)])
    grid = Grid(tuple(shape), spacing_mm=small.spacing_mm, origin_mm=small.origin_mm, direction=small.direction)
    return preprocessing, grid, {1: (first, middle), 2: (second_start, second_stop)}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(task=tasks(), ending=st.sampled_from([".nii.gz", ".nrrd"]))
def test_structures_come_back_within_a_target_voxel_on_exactly_the_grid(
    task: tuple[Preprocessing, Grid, dict[int, Box]], ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    preprocessing, grid, boxes = task
    folder = tmp_path_factory.mktemp("round")
    original = filled(grid.shape, boxes)
    scan = write_volume(Volume.on_grid((original * 100).astype(np.int16), grid), folder / f"scan{ending}")
    labels = write_label_map(Volume.on_grid(original, grid), folder / f"labels{ending}")

    source = read_volume(scan)
    prepared = preprocessing.apply(source)
    restored = prepared.restore_labels(prepared.labels(read_volume(labels)))
    written = write_label_map(restored, folder / f"out{ending}")

    assert restored.grid is source.grid
    assert restored.array.dtype == np.uint8
    back = read_volume(written).grid
    assert back.shape == source.grid.shape
    np.testing.assert_allclose(back.spacing_mm, source.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(back.corners_mm(), source.grid.corners_mm(), atol=1e-3)
    if ending == ".nii.gz":
        ours, theirs = nibabel.load(written), nibabel.load(scan)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    voxels = target_spacing_of_source_axes(preprocessing, grid) / grid.spacing_mm  # target voxel, in source voxels
    for value, (start, stop) in boxes.items():
        # where three labels meet the strongest wins, which can be off by a voxel of the scan, if that is the wider one
        assert_within_a_voxel(restored.array == value, start, stop, np.maximum(voxels, 1.0))
    start, stop = boxes[2]
    alone = prepared.restore_labels(prepared.labels(source.with_array((original == 2).astype(np.uint8))))
    assert_within_a_voxel(alone.array == 1, start, stop, voxels)


def assert_within_a_voxel(mask: np.ndarray, start: np.ndarray, stop: np.ndarray, voxels: np.ndarray) -> None:
    """Every side and the core of a box, to one target voxel; its middle to half a voxel of each grid."""
    got_start, got_stop = bounds(mask)
    assert (np.abs(got_start - start) <= voxels + 1e-6).all(), (got_start, start, voxels)
    assert (np.abs(got_stop - stop) <= voxels + 1e-6).all(), (got_stop, stop, voxels)
    low, high = np.ceil(start + voxels).astype(int), np.floor(stop - voxels).astype(int)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    assert mask[inside].all()
    shift = np.argwhere(mask).mean(axis=0) - (start + stop - 1) / 2
    assert (np.abs(shift) <= 0.5 * (voxels + 1.0)).all(), (shift, voxels)


def test_the_check_above_notices_a_mirror_and_a_shift() -> None:
    start, stop = np.array([1, 2, 3]), np.array([9, 9, 10])
    mask = filled((16, 16, 16), {1: (start, stop)}) == 1
    assert_within_a_voxel(mask, start, stop, np.ones(3))
    for wrong in (mask[::-1], mask[:, ::-1], mask[:, :, ::-1], np.roll(mask, 2, axis=1)):
        with pytest.raises(AssertionError):
            assert_within_a_voxel(wrong, start, stop, np.ones(3))


@settings(deadline=None, max_examples=25)
@given(task=tasks())
def test_what_the_network_sees_lies_where_the_scan_says(task: tuple[Preprocessing, Grid, dict[int, Box]]) -> None:
    """Labels on the prepared grid have their world centre where they had it on the source grid."""
    preprocessing, grid, boxes = task
    original = filled(grid.shape, boxes)
    prepared = preprocessing.apply(Volume.on_grid(original.astype(np.float32), grid))
    labels = prepared.labels(Volume.on_grid(original, grid))
    assert labels.shape == prepared.array.shape[1:] == prepared.grid.shape
    assert prepared.grid.axis_codes == preprocessing.orientation
    for value, (start, stop) in boxes.items():
        before = grid.world_mm((start + stop - 1) / 2)
        after = prepared.grid.world_mm(np.argwhere(labels == value).mean(axis=0))
        apart = np.abs(prepared.grid.direction.T @ (after - before)) / prepared.grid.spacing_mm
        assert (apart <= 0.51).all()
    # image and labels agree: inside the labels the z-scored image is brighter than outside
    assert prepared.array[0][labels == 2].min() > prepared.array[0][labels == 0].mean()


def test_nothing_drifts_to_one_side_on_average() -> None:
    """Over many sub-voxel placements the signed shift of a box cancels; a half-voxel error would stay."""
    random = np.random.default_rng(0)
    shifts = []
    for _ in range(80):
        spacing = tuple(random.uniform(0.8, 2.0, 2))
        grid = Grid((30, 30), spacing_mm=spacing)
        preprocessing = Preprocessing(spacing_mm=tuple(random.uniform(0.8, 2.0, 2)))
        start = random.integers(3, 8, 2)
        stop = start + random.integers(14, 18, 2)
        original = Volume.on_grid(filled(grid.shape, {1: (start, stop)}), grid)
        prepared = preprocessing.apply(original)
        back = prepared.restore_labels(prepared.labels(original)).array
        shift = np.argwhere(back).mean(axis=0) - (start + stop - 1) / 2
        shifts.append(shift / (1.0 + np.array(preprocessing.spacing_mm) / spacing))  # both grids round once
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.03
    assert np.abs(shifts).max() <= 0.5


@settings(deadline=None, max_examples=25)
@given(grid=st.one_of(grids(), grids(dims=2)), seed=st.integers(0, 99))
def test_with_a_mask_nothing_comes_back_where_every_channel_is_0(grid: Grid, seed: int) -> None:
    random = np.random.default_rng(seed)
    channels = random.integers(0, 2, (2, *grid.shape)).astype(np.float32)
    orientation = "RAS" if grid.spatial_dims == 3 else "LA"
    preprocessing = Preprocessing(orientation=orientation, crop="nonzero_mask")
    prepared = preprocessing.apply(Volume.on_grid(channels, grid))
    inside = nonzero_mask(channels) if channels.any() else np.zeros(grid.shape, bool)
    ones = np.ones(prepared.grid.shape, np.uint8)
    np.testing.assert_array_equal(prepared.restore_labels(ones).array, inside)
    scores = prepared.restore_scores(np.stack([-ones.astype(np.float32), ones]))
    np.testing.assert_array_equal(scores.array.argmax(axis=0), inside)
    cleared = np.ones(grid.shape, np.uint8)
    prepared.clear_outside(cleared)
    np.testing.assert_array_equal(cleared, inside)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"a mask of \(2, 2\) voxels; expected one of \(3, 4\)"):
        Crop(source=Grid((3, 4), spacing_mm=(1, 1)), start=(0, 0), stop=(2, 2), mask=np.ones((2, 2), bool))


def test_a_hole_in_the_mask_is_inside_and_a_bay_is_not() -> None:
    image = np.zeros((1, 7, 7), np.float32)
    image[0, 1:6, 1:6] = 3
    image[0, 3, 3] = 0
    image[0, 1:3, 2] = 0
    mask = nonzero_mask(image)
    assert mask[3, 3]
    assert not mask[1:3, 2].any()


@settings(deadline=None, max_examples=25)
@given(grid=st.one_of(grids(), grids(dims=2)), seed=st.integers(0, 99))
def test_without_resampling_the_way_back_is_exact(grid: Grid, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 3, grid.shape).astype(np.float32)
    orientation = "RAS" if grid.spatial_dims == 3 else "LA"
    preprocessing = Preprocessing(
        orientation=orientation, crop="nonzero", minimum_size=(7,) * grid.spatial_dims, normalization=(ZScore(),)
    )
    labels = Volume.on_grid((image > 1).astype(np.int32), grid)  # within the box that is kept
    prepared = preprocessing.apply(Volume.on_grid(image, grid))
    np.testing.assert_array_equal(prepared.restore_labels(prepared.labels(labels)).array, labels.array)
    scores = np.stack([prepared.array[0], -prepared.array[0]])
    restored = prepared.restore_scores(scores)
    assert restored.grid is prepared.source
    rule = ZScore()
    box = np.nonzero(image)
    if len(box[0]):
        normalized = preprocessing.normalize(
            prepared.steps[1].forward(prepared.steps[0].forward(image[None], "image"), "image")
        )
        np.testing.assert_array_equal(prepared.steps[2].inverse(prepared.array, "image"), normalized)
    assert rule == preprocessing.normalization[0]


def test_voxels_outside_the_crop_are_background() -> None:
    image = np.zeros((6, 7, 8), np.float32)
    image[2:5, 3:6, 1:4] = 5.0
    prepared = Preprocessing(crop="nonzero").apply(Volume(image, spacing_mm=(1, 1, 1)))
    assert prepared.array.shape == (1, 3, 3, 3)
    restored = prepared.restore_labels(np.full((3, 3, 3), 9, np.uint8))
    np.testing.assert_array_equal(restored.array, 9 * (image > 0))
    scores = prepared.restore_scores(np.stack([np.full((3, 3, 3), -5.0), np.full((3, 3, 3), 4.0)]))
    np.testing.assert_array_equal(scores.array.argmax(axis=0), image > 0)


def test_real_ct_comes_back(tmp_path: Path) -> None:
    ct = read_volume(slicerio.get_testdata_file("CTChest4.nrrd"))
    labels = read_volume(slicerio.get_testdata_file("Segmentation.seg.nrrd"))
    window = Window(low=-1000, high=400)
    prepared = Preprocessing(orientation="SPL", spacing_mm=(10, 4, 4), normalization=(window,)).apply(ct)
    assert ct.axis_codes == "SAR"
    assert prepared.grid.axis_codes == "SPL"
    assert prepared.array.min() >= -1.0  # -3024 outside the field of view was clipped before interpolation
    restored = prepared.restore_labels(prepared.labels(labels))
    for value, least in ((5, 0.97), (6, 0.97), (7, 0.96), (3, 0.9)):
        a, b = labels.array == value, restored.array == value
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > least
    path = write_label_map(restored, tmp_path / "x.nii.gz")
    affine = np.diag([3.046875, 3.046875, 10.0, 1.0])
    np.testing.assert_allclose(np.abs(nibabel.load(path).affine[:3, :3]), np.abs(affine[:3, :3]), atol=5e-3)


def test_scores_come_back_linearly_and_agree_with_labels() -> None:
    labels = Volume(filled((12, 12), {1: (np.array([2, 3]), np.array([8, 11]))}), spacing_mm=(1.0, 1.0))
    prepared = Preprocessing(spacing_mm=(1.5, 1.5)).apply(labels)
    coarse = prepared.labels(labels)
    scores = np.stack([coarse == 0, coarse == 1]).astype(np.float32)
    restored = prepared.restore_scores(scores)
    assert (restored.array.shape, restored.array.dtype) == ((2, 12, 12), np.float32)
    np.testing.assert_allclose(restored.array.sum(axis=0), 1.0, atol=1e-5)
    decided = np.abs(restored.array[1] - 0.5) > 1e-3
    np.testing.assert_array_equal(
        restored.array.argmax(axis=0)[decided], prepared.restore_labels(coarse).array[decided]
    )


def test_channels_are_normalized_by_their_own_rules() -> None:
    array = np.stack([np.linspace(-1000, 400, 24).reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4)])
    rules = (Window(low=-1000, high=400), ZScore())
    prepared = Preprocessing(normalization=rules).apply(Volume(array, spacing_mm=(1, 1, 1)))
    assert prepared.array.dtype == np.float32
    assert (prepared.array[0].min(), prepared.array[0].max()) == (-1.0, 1.0)
    assert abs(prepared.array[1].mean()) < 1e-6


def test_apply_leaves_the_volume_alone_and_owns_its_array() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = Volume(array.copy(), spacing_mm=(1, 1, 1))
    prepared = Preprocessing(orientation="SPL").apply(volume)
    prepared.array[:] = -1
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (
            Volume(np.zeros((2, 3, 4, 5)), spacing_mm=(1, 1, 1)),
            "2 channels; expected 1, as many as the network was made for",
        ),
        (Volume(np.zeros((4, 5)), spacing_mm=(1, 1)), "a 2-D image of 4x5 voxels; expected 3 dimensions"),
        (
            Volume(np.full((3, 4, 5), np.nan), spacing_mm=(1, 1, 1)),
            "60 of 60 voxels are NaN or infinite; expected finite numbers",
        ),
    ],
)
def test_volumes_that_do_not_fit_are_refused(volume: Volume, text: str) -> None:
    preprocessing = Preprocessing(orientation="SPL", normalization=(ZScore(),))
    with pytest.raises(VolumeError) as caught:
        preprocessing.apply(volume)
    assert text in str(caught.value)


def test_labels_and_scores_that_do_not_fit_are_refused() -> None:
    volume = Volume(np.zeros((4, 5, 6), np.uint8), spacing_mm=(1, 1, 1))
    prepared = Preprocessing(spacing_mm=(2, 2, 2)).apply(volume)
    elsewhere = Volume(volume.array, spacing_mm=(1, 1, 1), origin_mm=(3, 0, 0))
    with pytest.raises(VolumeError, match=r"expected the image's grid"):
        prepared.labels(elsewhere)
    with pytest.raises(VolumeError, match=r"type float32; expected whole numbers of shape \(4, 5, 6\)"):
        prepared.labels(volume.with_array(volume.array.astype(np.float32)))
    with pytest.raises(VolumeError, match=r"expected whole numbers of shape \(2, 3, 3\)"):
        prepared.restore_labels(volume.array)
    with pytest.raises(VolumeError, match=r"scores of shape \(2, 3, 3\); expected \(classes, \*\(2, 3, 3\)\)"):
        prepared.restore_scores(np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(
            orientation="SPL",
            spacing_mm=(10.0, 6.1, 6.1),
            crop="nonzero",
            normalization=(Window(low=-1000, high=400, mean=3.5, std=2), ZScore(nonzero_only=True)),
            minimum_size=(16, 32, 32),
        ),
        Preprocessing(spacing_mm=(0.5, 0.5), normalization=(Window(low=0, high=255),) * 3),
    ],
)
def test_it_survives_json_and_yaml(preprocessing: Preprocessing) -> None:
    values = preprocessing.to_dict()
    assert Preprocessing.from_dict(json.loads(json.dumps(values))) == preprocessing
    assert Preprocessing.from_dict(yaml.safe_load(yaml.safe_dump(values))) == preprocessing


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"spacing": [1, 1, 1]}, "preprocessing with unknown 'spacing'; expected one of orientation, spacing_mm"),
        ({"spacing": [1, 1, 1]}, "fix: did you mean 'spacing_mm'?"),
        ({"orientation": "SXL"}, "orientation='SXL'"),
        ({"spacing_mm": [1, 0, 1]}, "spacing_mm=[1, 0, 1]; expected a number above 0 for each axis, or None"),
        ({"spacing_mm": "wide"}, "spacing_mm='wide'"),
        ({"spacing_mm": []}, "spacing_mm=[]"),
        ({"minimum_size": [1.5, 2, 2]}, "minimum_size=[1.5, 2, 2]"),
        ({"crop": "brain"}, "crop='brain'; expected one of none, nonzero, nonzero_mask"),
        ({"normalization": ["zscore"]}, "expected a list of {kind: window, ...}"),
        ({"orientation": "SPL", "spacing_mm": [1, 1]}, "expected 2 values each for images, or 3 each for volumes"),
        ({"spacing_mm": [1, 1, 1, 1]}, "expected 2 values each for images, or 3 each for volumes"),
    ],
)
def test_what_describes_no_preprocessing_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(PlanError) as caught:
        Preprocessing.from_dict(values)
    assert text in str(caught.value)


def test_rules_must_be_rules() -> None:
    with pytest.raises(PlanError, match="expected a tuple of Window"):
        Preprocessing(normalization=("zscore",))  # type: ignore[arg-type]
