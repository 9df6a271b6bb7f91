"""The fingerprint's numbers against numbers worked out by hand."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import SimpleITK

from resvox.datasets.labelled import read_labelled
from resvox.errors import DatasetError, ResvoxError
from resvox.training import read_dataset, take_fingerprint
from resvox.training.plans.fingerprint import canonical_order, channel_intensities, intensities, sampled_values
from resvox.training.segmentation.fingerprint import _foreground_values
from resvox.volumes import Volume


def two_cases(folder, write):
    """Case a: 100 labelled voxels 0..99; case b: 50 labelled voxels of 1000; other voxels are far off."""
    for name, spacing, values in (("a", (4.0, 1.0, 2.0), range(100)), ("b", (2.0, 1.0, 1.0), [1000] * 50)):
        scan = np.full((4, 10, 6), -5000, np.int16)
        label = np.zeros(scan.shape, np.uint8)
        values = list(values)
        scan.ravel()[: len(values)] = values
        label.ravel()[: len(values)] = 1
        label.ravel()[: 10 if name == "b" else 0] = 2
        write(folder / f"imagesTr/{name}_0000.nii.gz", scan, spacing)
        write(folder / f"labelsTr/{name}.nii.gz", label, spacing)
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1, "y": 2}}
    (folder / "dataset.json").write_text(json.dumps(described))
    return read_dataset(folder)


def test_numbers_by_hand(tmp_path, image_writer):
    seen = []
    found = take_fingerprint(two_cases(tmp_path, image_writer), progress=lambda *told: seen.append(told))
    assert seen == [(1, 2, "a"), (2, 2, "b")]
    assert [case.spacing_mm for case in found.cases] == [(4.0, 1.0, 2.0), (2.0, 1.0, 1.0)]
    assert found.median_spacing_mm == (3.0, 1.0, 1.5)
    assert [case.shape for case in found.cases] == [(4, 10, 6), (4, 10, 6)]
    # at 2 x 1 x 1 mm: a has 8, 10, 12 voxels, b has 4, 10, 6; medians 6, 10, 9
    assert found.median_shape((2.0, 1.0, 1.0)) == (6, 10, 9)
    assert found.voxels == {"background": 480 - 150, "x": 140, "y": 10}
    assert found.balance["y"] == pytest.approx(10 / 480)
    values = np.concatenate([np.arange(100.0), np.full(50, 1000.0)])
    (channel,) = found.intensities
    assert channel.mean == pytest.approx((4950 + 50_000) / 150)
    assert channel.std == pytest.approx(np.sqrt((values**2).sum() / 150 - channel.mean**2))
    # rank (150 - 1) * 0.005 = 0.745 between the sorted values 0 and 1
    assert channel.percentile_00_5 == pytest.approx(0.745)
    assert channel.percentile_99_5 == 1000
    assert (channel.minimum, channel.maximum) == (0, 1000)


@pytest.mark.parametrize(("place", "counted"), [((0, 0, 0), 1), ((2, 4, 3), 0), ((2, 4, 2), 0)])
def test_labels_outside_of_what_is_not_0_are_counted(tmp_path, image_writer, place, counted):
    scan = np.zeros((5, 9, 7), np.int16)
    scan[1:4, 2:7, 1:6] = 100
    scan[2, 4, 3] = 0  # an enclosed hole
    label = np.zeros(scan.shape, np.uint8)
    label[2, 4, 2] = label[place] = 1
    image_writer(tmp_path / "imagesTr/a_0000.nii.gz", scan, (1.0, 1.0, 1.0))
    image_writer(tmp_path / "labelsTr/a.nii.gz", label, (1.0, 1.0, 1.0))
    described = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = take_fingerprint(read_dataset(tmp_path))
    assert found.cases[0].labelled_outside == counted
    assert found.labels_are_inside == (counted == 0)


def test_a_sample_of_the_voxels_is_drawn_by_case_id(tmp_path, image_writer):
    dataset = two_cases(tmp_path, image_writer)
    once, again = (take_fingerprint(dataset, samples=20) for _ in range(2))
    assert once == again
    assert once.intensities[0].mean == pytest.approx(take_fingerprint(dataset).intensities[0].mean, rel=0.5)


def test_axes_are_counted_in_canonical_order(tmp_path):
    # The same scan stored with its axes permuted: D of the array runs left, H to superior, W to posterior.
    assert canonical_order("LSP") == (1, 2, 0)
    assert canonical_order("PIR") == (1, 0, 2)
    array = np.zeros((3, 5, 7), np.uint8)
    array[1] = 1
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))  # x, y, z of the file: array axes W, H, D
    # columns are the directions of x, y, z: x runs to +y (P), y to +z (S), z to +x (L)
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "imagesTr/a_0000.nii.gz"))
    SimpleITK.WriteImage(image, str(tmp_path / "labelsTr/a.nii.gz"))
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    (case,) = take_fingerprint(read_dataset(tmp_path)).cases
    assert case.axis_codes == "LSP"
    assert case.shape == (5, 7, 3)  # S, P, L
    assert case.spacing_mm == pytest.approx((2.0, 1.0, 3.0))


def rewrite(path, change):
    image = SimpleITK.ReadImage(str(path))
    changed = SimpleITK.GetImageFromArray(change(SimpleITK.GetArrayFromImage(image)))
    changed.SetSpacing(image.GetSpacing())
    SimpleITK.WriteImage(changed, str(path))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("labelsTr/b.nii.gz", lambda a: a[:, :, 1:], ["imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz", "sizes"]),
        ("labelsTr/b.nii.gz", lambda a: a * 7, ["label values 7, 14 are in the data and not declared", "1 (ball)"]),
        ("labelsTr/b.nii.gz", lambda a: a.astype(np.float32) / 2, ["fractional label values"]),
    ],
)
def test_unusable_cases_are_refused_in_clear_words(folder_of, file, change, words):
    folder = folder_of()
    rewrite(folder / file, change)
    with pytest.raises(DatasetError) as caught:
        take_fingerprint(read_dataset(folder))
    for word in words:
        assert word in str(caught.value)


def test_an_image_with_nan_is_refused_by_name(folder_of):
    folder = folder_of()
    rewrite(folder / "imagesTr/b_0000.nii.gz", lambda a: np.where(a > 300, np.nan, a).astype(np.float32))
    with pytest.raises(ResvoxError, match=r"b_0000.nii.gz: \d+ of 4096 voxels are NaN"):
        take_fingerprint(read_dataset(folder))


def test_a_shifted_label_map_names_both_files(folder_of):
    folder = folder_of()
    path = folder / "labelsTr/a.nii.gz"
    image = SimpleITK.ReadImage(str(path))
    image.SetOrigin((0.05, 0.0, 0.0))  # rounding of headers is not a shift
    SimpleITK.WriteImage(image, str(path))
    take_fingerprint(read_dataset(folder))
    image.SetOrigin((3.0, 0.0, 0.0))
    SimpleITK.WriteImage(image, str(path))
    with pytest.raises(DatasetError) as caught:
        take_fingerprint(read_dataset(folder))
    text = str(caught.value)
    assert "a_0000.nii.gz" in text
    assert "labelsTr/a.nii.gz lie on different grids: positions up to 3 voxels apart" in text


def test_no_labelled_voxel(folder_of):
    folder = folder_of()
    for name in ("a", "b"):
        rewrite(folder / f"labelsTr/{name}.nii.gz", lambda a: a * 0)
    with pytest.raises(DatasetError, match="no labelled voxel in 2 cases"):
        take_fingerprint(read_dataset(folder))


def test_sampled_values_take_4_bytes_and_give_the_numbers_that_float64_gives(tmp_path, image_writer):
    dataset = two_cases(tmp_path, image_writer)
    kept = _foreground_values(dataset.cases[0], *read_labelled(dataset.cases[0], dataset), 50, ignore=None)
    assert kept.shape == (1, 50)
    assert kept.dtype.itemsize <= 4
    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(size=(2, 9, 9)), spacing_mm=(1.0, 1.0))  # as an .npz may hold it
    assert sampled_values("a", scan, 10).dtype == np.float32
    values = [rng.normal(1e4, 3, (2, 1000)).astype(np.float32), rng.integers(-9, 2**15, (2, 700)).astype(np.int16)]
    wide = np.concatenate([each.astype(np.float64) for each in values], axis=1)
    expected = tuple(intensities(name, channel) for name, channel in zip("ab", wide, strict=True))
    assert channel_intensities("ab", values) == expected


def test_the_values_of_all_cases_are_not_copied_at_once():
    values = [np.ones((16, 50_000), np.float32) for _ in range(4)]
    tracemalloc.start()
    try:
        channel_intensities("abcdefghijklmnop", values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < sum(each.nbytes for each in values)
