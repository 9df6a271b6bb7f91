"""DICOM: the order and the distances of slices come from their positions, and a series that is no volume is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_modality_lut
from volumes.dicom_slices import make_slice
from volumes.geometry_strategies import directions

from resvox.errors import VolumeError
from resvox.volumes import list_series, read_volume

Write = Callable[..., Path]


def by_pydicom(paths: list[Path]) -> dict[str, np.ndarray]:
    """A stack of slices as pydicom reads it, sorted by position along the normal."""
    slices = [pydicom.dcmread(path) for path in paths]
    row, column = np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    slices.sort(key=lambda ds: float(normal @ np.array(ds.ImagePositionPatient, float)))
    first, last = (np.array(slices[k].ImagePositionPatient, float) for k in (0, -1))
    between = float(np.linalg.norm(last - first)) / max(1, len(slices) - 1)
    return {
        "array": np.stack([apply_modality_lut(ds.pixel_array, ds) for ds in slices]),
        "spacing_mm": np.array([between, *map(float, slices[0].PixelSpacing)]),
        "origin_mm": first,
        "direction": np.stack([normal, column, row], axis=1),
    }


def assert_same(folder: Path, expected: dict[str, np.ndarray]) -> None:
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, expected["array"])
    for name in ("spacing_mm", "origin_mm", "direction"):
        np.testing.assert_allclose(getattr(volume, name), expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("patient", "slices"), [(1, 60), (2, 41), (3, 46), (4, 56)])
def test_real_series_agree_with_pydicom(patient: int, slices: int, packaged: Callable[[str, str], Path]) -> None:
    folder = packaged("pycerr", f"radiomics_phantom_dicom/pat_{patient}/DCM_IMG_00001.dcm").parent
    expected = by_pydicom(sorted(folder.glob("DCM_IMG_*.dcm")))
    assert len(expected["array"]) == slices
    assert list(folder.glob("DCM_RS_*.dcm"))  # the structure set beside them is passed over
    assert_same(folder, expected)
    assert read_volume(folder).spacing_mm[0] == pytest.approx(3.0, abs=1e-4)


def test_real_gated_series_agrees_with_pydicom(pydicom_files: Path) -> None:
    folder = pydicom_files / "dicomdirtests" / "98892001" / "CT5N"
    assert_same(folder, by_pydicom(sorted(folder.iterdir())))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"])
def test_a_lone_slice_agrees_with_pydicom(name: str, pydicom_files: Path) -> None:
    ds, volume = pydicom.dcmread(pydicom_files / name), read_volume(pydicom_files / name)
    np.testing.assert_array_equal(volume.array, apply_modality_lut(ds.pixel_array, ds)[np.newaxis])
    np.testing.assert_allclose(volume.spacing_mm, [float(ds.SliceThickness), *ds.PixelSpacing])
    np.testing.assert_allclose(volume.origin_mm, np.array(ds.ImagePositionPatient, float))
    assert volume.axis_codes == "SPL"


def test_an_enhanced_file_agrees_with_its_functional_groups(packaged: Callable[[str, str], Path]) -> None:
    path = packaged("pydicom-data", "eCT_Supplemental.dcm")
    ds, volume = pydicom.dcmread(path), read_volume(path)
    frames = [group.PlanePositionSequence[0].ImagePositionPatient for group in ds.PerFrameFunctionalGroupsSequence]
    shared = ds.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    intercept = float(shared.PixelValueTransformationSequence[0].RescaleIntercept)
    np.testing.assert_array_equal(volume.array, ds.pixel_array.astype(int) + intercept)
    np.testing.assert_allclose(volume.grid.world_mm([[0, 0, 0], [1, 0, 0]]), np.array(frames, float))
    np.testing.assert_allclose(np.asarray(volume.direction)[:, 1:], np.stack([column, row], axis=1))
    assert volume.spacing_mm == (10.0, 0.388672, 0.388672)


def test_frames_without_positions_are_refused(packaged: Callable[[str, str], Path]) -> None:
    with pytest.raises(VolumeError, match=r"emri_small\.dcm: multi-frame file of 10 frames and 0 positions; expected"):
        read_volume(packaged("pydicom-data", "data/emri_small.dcm"))


def test_a_segmentation_object_is_no_scan(packaged: Callable[[str, str], Path]) -> None:
    with pytest.raises(VolumeError, match=r"liver\.dcm: a DICOM segmentation \(SEG\), which holds no scan"):
        read_volume(packaged("pydicom-data", "liver.dcm"))


def test_the_real_hole_of_200_mm_is_refused_with_its_place(pydicom_files: Path) -> None:
    folder = pydicom_files / "dicomdirtests" / "77654033" / "CT2"
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert str(caught.value).startswith(
        f"{folder}: a gap of 202.50 mm between slices 17106 and 17136 (at -99.48 and 103.02 mm), "
        "the others 1.25 mm apart; expected evenly spaced slices; fix: "
    )


def test_the_real_scout_is_refused(pydicom_files: Path) -> None:
    with pytest.raises(VolumeError, match="slices of different directions in one series"):
        read_volume(pydicom_files / "dicomdirtests" / "98892001" / "CT2N")


def some_slices(count: int = 6) -> np.ndarray:
    return np.random.default_rng(2).integers(-1000, 1000, (count, 5, 7)).astype(np.int16)


def test_neither_file_names_nor_thickness_are_believed(dicom_series: Write, tmp_path: Path) -> None:
    array = some_slices()
    folder = dicom_series(tmp_path / "s", array, heights=[-3.0 + 2.5 * k for k in range(6)], thickness=99.0)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.spacing_mm[0] == pytest.approx(2.5)
    np.testing.assert_allclose(volume.origin_mm, (10.0, 20.0, -3.0))


@settings(deadline=None, max_examples=20)
@given(direction=directions(), seed=st.integers(0, 1000))
def test_slices_in_any_direction_come_in_the_order_of_space(
    direction: np.ndarray, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("oblique")
    random = np.random.default_rng(seed)
    array = some_slices(4)
    direction = np.stack([np.cross(direction[:, 2], direction[:, 1]), direction[:, 1], direction[:, 2]], axis=1)
    origin = random.uniform(-200, 200, 3)
    for place, name in enumerate(random.permutation(4)):
        ds = make_slice(
            array[place],
            position=origin + direction[:, 0] * 3.7 * place,
            orientation=[*direction[:, 2], *direction[:, 1]],
            spacing=(0.9, 0.6),
        )
        ds.save_as(folder / f"{name}", enforce_file_format=True)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, (3.7, 0.9, 0.6), atol=1e-4)
    np.testing.assert_allclose(volume.origin_mm, origin, atol=1e-4)
    np.testing.assert_allclose(volume.direction, direction, atol=1e-6)


def test_each_slice_has_its_own_slope_and_intercept(
    dicom_slice: Callable[..., pydicom.FileDataset], tmp_path: Path
) -> None:
    array = some_slices(3)
    for k, (slope, intercept) in enumerate([(1.0, 0.0), (0.25, -10.0), (2.0, 5.0)]):
        ds = dicom_slice(array[k], position=(0, 0, float(k)), slope=slope, intercept=intercept)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    expected = array * np.array([1.0, 0.25, 2.0]).reshape(3, 1, 1) + np.array([0.0, -10.0, 5.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(read_volume(tmp_path).array, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("heights", "text"),
    [
        ([0, 2, 4, 12, 14, 16], "a gap of 8.00 mm between slices"),
        ([0, 2, 4, 6, 8, 12], "(at 8.00 and 12.00 mm), the others 2.00 mm apart"),
        ([0, 2, 4, 4, 6, 8], "two slices at one position: "),
        ([0, 2, 4, 6.6, 9.4, 12.2], "unevenly spaced slices, 2.00 to 2.80 mm apart"),
    ],
)
def test_slices_that_are_not_evenly_spaced_are_refused(
    heights: list[float], text: str, dicom_series: Write, tmp_path: Path
) -> None:
    folder = dicom_series(tmp_path / "s", some_slices(), heights=heights)
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{folder}: ")


def test_positions_rounded_by_the_scanner_are_no_hole(dicom_series: Write, tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", some_slices(), heights=[0.0, 1.2, 2.5, 3.8, 5.0, 6.2])
    assert read_volume(folder).spacing_mm[0] == pytest.approx(1.24)


def test_a_tilted_gantry_is_refused(dicom_slice: Callable[..., pydicom.FileDataset], tmp_path: Path) -> None:
    for k, plane in enumerate(some_slices(4)):
        dicom_slice(plane, position=(0, 0.4 * k, 2.0 * k)).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    with pytest.raises(VolumeError, match=r"slices shifted sideways by 1\.20 mm \(gantry tilt\)"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        ({"position": None}, "a slice without a position"),
        ({"spacing": (2.0, 2.0)}, "slices of different pixel spacings"),
        ({"orientation": (0, 1, 0, 0, 0, 1)}, "slices of different directions"),
        ({"pixels": np.zeros((4, 4))}, "slices of different sizes"),
    ],
)
def test_a_slice_unlike_the_others_is_refused(
    odd: dict[str, object], text: str, dicom_slice: Callable[..., pydicom.FileDataset], tmp_path: Path
) -> None:
    for k, plane in enumerate(some_slices(4)):
        tags = {"pixels": plane, "position": (0, 0, 2.0 * k), **(odd if k == 2 else {})}
        dicom_slice(**tags).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    with pytest.raises(VolumeError, match=text):
        read_volume(tmp_path)


def test_a_picture_without_a_place_is_2d(dicom_slice: Callable[..., pydicom.FileDataset], tmp_path: Path) -> None:
    plane = some_slices(1)[0]
    dicom_slice(plane, position=None, spacing=(0.3, 0.2)).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path / "x.dcm")
    assert (volume.spatial_dims, volume.spacing_mm) == (2, (0.3, 0.2))
    np.testing.assert_array_equal(volume.array, plane)


def test_several_series_are_listed_and_chosen(dicom_series: Write, tmp_path: Path) -> None:
    first, second = some_slices(4), some_slices(6)
    dicom_series(tmp_path / "in" / "deep", first, series_uid="1.2.7", number=7, description="lung")
    folder = dicom_series(tmp_path / "in", second, series_uid="1.2.3", number=3, description="bone")
    assert [(s.uid, s.number, s.description, s.slices) for s in list_series(folder)] == [
        ("1.2.3", 3, "bone", 6),
        ("1.2.7", 7, "lung", 4),
    ]
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert str(caught.value) == (
        f"{folder}: 2 series and none chosen: 3 'bone' (CT, 6 slices, 1.2.3), 7 'lung' (CT, 4 slices, 1.2.7); "
        "expected one series; fix: choose one by series number or UID with series="
    )
    np.testing.assert_array_equal(read_volume(folder, series=7).array, first)
    np.testing.assert_array_equal(read_volume(folder, series="7").array, first)
    np.testing.assert_array_equal(read_volume(folder, series="1.2.3").array, second)
    with pytest.raises(VolumeError, match=r"series=9 fits 0 of them"):
        read_volume(folder, series=9)


def test_other_files_in_the_folder_are_passed_over(dicom_series: Write, pydicom_files: Path, tmp_path: Path) -> None:
    array = some_slices(4)
    folder = dicom_series(tmp_path / "s", array)
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.dcm").write_text("hello")
    shutil.copy(pydicom_files / "test-SR.dcm", folder / "report.dcm")
    np.testing.assert_array_equal(read_volume(folder).array, array)


def test_a_damaged_slice_is_named(dicom_series: Write, tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", some_slices(4))
    (folder / "broken.dcm").write_bytes(b"not dicom" * 40)
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert str(caught.value).startswith(f"{folder / 'broken.dcm'}: not a DICOM file")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rubbish" * 30)
    with pytest.raises(VolumeError, match=r"broken\.dcm: damaged DICOM file"):
        read_volume(folder)


def test_no_such_folder_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no such folder"):
        list_series(tmp_path / "nowhere")
