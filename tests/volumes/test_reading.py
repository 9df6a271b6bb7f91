"""Files read: geometry as another reader gives it, and one clear line for each that is broken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from volumes.geometry_strategies import grids

from resvox.errors import VolumeError
from resvox.volumes import Grid, Volume, read_volume, write_volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def affine_ras(grid: Grid) -> np.ndarray:
    """The affine nibabel should show for a grid: index order x, y, z reversed, world RAS."""
    affine = np.eye(4)
    affine[:3, :3] = RAS_TO_LPS @ (grid.direction * grid.spacing_mm)[:, ::-1]
    affine[:3, 3] = RAS_TO_LPS @ np.array(grid.origin_mm)
    return affine


def some_scan(shape: tuple[int, ...] = (6, 7, 8), kind: type = np.int16) -> np.ndarray:
    return np.random.default_rng(3).integers(-900, 900, shape).astype(kind)


@settings(deadline=None, max_examples=30)
@given(grid=grids(sizes=st.integers(2, 6)))
def test_nifti_of_nibabel_is_read_in_its_place(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    array = some_scan(grid.shape)
    path = tmp_path_factory.mktemp("nifti") / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array.transpose(), affine_ras(grid)), path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.spacing_mm, grid.spacing_mm, rtol=1e-5)
    np.testing.assert_allclose(volume.origin_mm, grid.origin_mm, atol=1e-3)
    np.testing.assert_allclose(volume.direction, grid.direction, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "sample_ct/sub-ct_label-22_ct.nii.gz",
        "sample_ct/sub-ct_seg-subreg_label-22_msk.nii.gz",
        "sample_mri/sub-mri_label-6_T2w.nii.gz",
        "sample_mri/sub-mri_seg-vert_label-6_msk.nii.gz",
    ],
)
def test_real_nifti_crops_agree_with_nibabel(name: str, packaged: Callable[[str, str], Path]) -> None:
    path = packaged("tptbox", name)
    theirs, ours = nibabel.load(path), read_volume(path)
    np.testing.assert_array_equal(ours.array, np.asarray(theirs.dataobj).transpose())
    np.testing.assert_allclose(affine_ras(ours.grid), theirs.affine, atol=1e-5)
    assert "".join(nibabel.aff2axcodes(theirs.affine)) == "PIR"
    assert ours.axis_codes == "RIP"  # the same axes, last first


def test_real_nrrd_agrees_with_its_header(packaged: Callable[[str, str], Path]) -> None:
    import nrrd

    path = packaged("slicerio", "CTChest4.nrrd")
    array, header = nrrd.read(str(path))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array.transpose())
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_allclose(volume.origin_mm, header["space origin"])
    columns = (np.asarray(volume.direction) * volume.spacing_mm)[:, ::-1]
    np.testing.assert_allclose(columns, np.asarray(header["space directions"]).T, atol=1e-9)
    assert (volume.array.min(), volume.array.max()) == (-3024, 3070)


def test_vector_nrrd_becomes_channels(packaged: Callable[[str, str], Path]) -> None:
    path = packaged("slicerio", "SegmentationOverlapping.seg.nrrd")
    assert read_volume(path).array.shape == (2, 34, 128, 128)
    with pytest.raises(VolumeError, match=r"SegmentationOverlapping\.seg\.nrrd: 2 channels; expected 1"):
        read_volume(path, channels=1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_integers_keep_their_type(ending: str, kind: type, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = write_volume(Volume(array, spacing_mm=(3, 2, 1)), tmp_path / f"x{ending}")
    got = read_volume(path).array
    assert got.dtype == kind
    np.testing.assert_array_equal(got, array)


def test_doubles_and_scaled_integers_come_as_float32(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4)) / 3, np.eye(4)), tmp_path / "double.nii")
    for name in ("scaled.nii.gz", "double.nii"):
        volume = read_volume(tmp_path / name)
        assert volume.array.dtype == np.float32
        theirs = nibabel.load(tmp_path / name).get_fdata()
        np.testing.assert_allclose(volume.array, theirs.transpose(), rtol=1e-6)


def test_pictures_are_2d_and_colours_are_channels(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.tif")
    colour, grey = read_volume(tmp_path / "rgb.png"), read_volume(tmp_path / "grey.tif")
    assert (colour.spatial_dims, colour.channels, colour.array.shape) == (2, 3, (3, 5, 7))
    np.testing.assert_array_equal(colour.array, np.moveaxis(rgb, -1, 0))
    assert (grey.spatial_dims, grey.array.shape, grey.axis_codes) == (2, (5, 7), "PL")
    np.testing.assert_array_equal(grey.array, rgb[..., 0])


def test_four_dimensions_are_channels_only_when_asked_for(tmp_path: Path) -> None:
    array = some_scan((5, 6, 7, 2))
    path = tmp_path / "brats.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-2.0, -3.0, 4.0, 1.0])), path)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(caught.value) == (
        f"{path}: 4-D image of 5x6x7x2 voxels (time or channels); expected a 3-D or 2-D image; "
        "fix: split it into one file per channel: case_0000.nii.gz, case_0001.nii.gz, ..."
    )
    with pytest.raises(VolumeError, match=r"4-D image of 5x6x7x2 voxels.* or 3 channels"):
        read_volume(path, channels=3)
    volume = read_volume(path, channels=2)
    np.testing.assert_array_equal(volume.array, array.transpose())
    assert (volume.spatial_dims, volume.channels, volume.spacing_mm) == (3, 2, (4.0, 3.0, 2.0))


def test_a_fourth_axis_of_one_is_no_fourth_axis(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(some_scan((5, 6, 7, 1)), np.eye(4)), tmp_path / "one.nii.gz")
    assert read_volume(tmp_path / "one.nii.gz").array.shape == (7, 6, 5)


def test_big_endian_nifti_is_read(tmp_path: Path) -> None:
    array = some_scan(kind=np.float32)
    big = nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(big, tmp_path / "big.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii").array, array.transpose())


def _broken(folder: Path) -> dict[str, tuple[Path, str]]:
    """name -> (file, what its one line must say)."""
    write_volume(Volume(some_scan((9, 20, 20)), spacing_mm=(1, 1, 1)), folder / "good.nii.gz")
    whole = (folder / "good.nii.gz").read_bytes()
    flat = bytearray(gzip.decompress(whole))
    files: dict[str, tuple[bytes, str]] = {
        "half.nii.gz": (whole[: len(whole) // 2], "truncated or damaged gzip data"),
        "nearly.nii.gz": (whole[:-6], "truncated or damaged gzip data"),
        "flipped.nii.gz": (_flip(whole), "truncated or damaged gzip data"),
        "regzipped.nii.gz": (gzip.compress(flat[: len(flat) // 2]), "truncated: 3776 bytes; expected 7552 bytes"),
        "half.nii": (bytes(flat[: len(flat) // 2]), "truncated: 3776 bytes; expected 7552 bytes"),
        "text.nii.gz": (b"this is a text file\n" * 20, "not gzip-compressed"),
        "text.nii": (b"this is a text file\n" * 40, "no NIfTI header in it"),
        "short.nii": (b"abc", "no NIfTI header in it"),
        "gzipped_text.nii.gz": (gzip.compress(b"hello " * 200), "no NIfTI header in it"),
        "zero.nii.gz": (b"", "the file is empty (0 bytes)"),
        "text.png": (b"no picture", "cannot be read"),
        "text.nrrd": (b"no volume", "cannot be read"),
        "text.dcm": (b"no slice" * 30, "damaged DICOM file"),
        "scan.xyz": (b"what is it", "not an image that can be read"),
    }
    spacing = flat.copy()
    spacing[76 + 4 : 76 + 16] = struct.pack("<3f", 0, 0, 0)
    spacing[254:256] = struct.pack("<h", 0)  # sform_code: the spacing is that of pixdim
    files["no_spacing.nii"] = (bytes(spacing), "NIfTI header with spacing (0.0, 0.0, 0.0)")
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    broken = {name: (folder / name, text) for name, (_, text) in files.items()}
    for ending, text in (
        (".nrrd", "but received"),
        (".mha", "truncated or damaged compressed data"),
        (".png", "cannot be read"),
    ):
        array = np.random.default_rng(0).integers(0, 255, (40, 41) if ending == ".png" else (9, 20, 20))
        volume = Volume(array.astype(np.uint8), spacing_mm=(1.0,) * array.ndim)
        data = write_volume(volume, folder / f"good{ending}").read_bytes()
        (folder / f"half{ending}").write_bytes(data[: len(data) // 2])
        broken[f"half{ending}"] = (folder / f"half{ending}", text)
    sheared = np.eye(4)
    sheared[0, 1] = 0.4
    image = nibabel.Nifti1Image(some_scan(), sheared)
    image.set_qform(None, 0)
    nibabel.save(image, folder / "sheared.nii.gz")
    broken["sheared.nii.gz"] = (folder / "sheared.nii.gz", "its axes are sheared (not at right angles)")
    nan = np.full((3, 3, 3), np.nan, np.float32)
    write_volume(Volume(nan, spacing_mm=(1, 1, 1)), folder / "nan.nii.gz")
    broken["nan.nii.gz"] = (folder / "nan.nii.gz", "all of 27 voxels are NaN or infinite")
    broken["nowhere.nii.gz"] = (folder / "nowhere.nii.gz", "no such file or folder")
    (folder / "empty").mkdir()
    broken["empty"] = (folder / "empty", "no DICOM images in this folder")
    return broken


def _flip(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0xFF
    return bytes(changed)


def test_each_broken_file_gets_one_line_that_names_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = _broken(tmp_path)
    assert len(broken) == 22
    for name, (path, text) in broken.items():
        with pytest.raises(VolumeError) as caught:
            read_volume(path)
        line = str(caught.value)
        assert line.startswith(f"{path}: "), name
        assert text in line, (name, line)
        assert "\n" not in line
        assert "ITK ERROR" not in line
        assert "(0x" not in line  # no address of a C++ object
    assert capfd.readouterr() == ("", "")  # the libraries below said nothing on their own


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_that_are_none_are_counted_and_refused(ending: str, kind: type, tmp_path: Path) -> None:
    array = np.zeros((70, 60, 50), kind)  # several chunks
    array[-1, -1, -2:] = np.nan, np.inf
    path = write_volume(Volume(array, spacing_mm=(1, 1, 1)), tmp_path / f"some{ending}")
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(caught.value) == (
        f"{path}: 2 of 210000 voxels are NaN or infinite; expected finite numbers; "
        "fix: decide what they mean and replace them, e.g. by the value of air"
    )


def test_a_double_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    path = write_volume(Volume(np.full((2, 2, 2), 1e300), spacing_mm=(1, 1, 1)), tmp_path / "large.nrrd")
    with pytest.raises(VolumeError, match="all of 8 voxels are NaN or infinite"):
        read_volume(path)


def test_channels_are_counted(tmp_path: Path) -> None:
    path = write_volume(Volume(some_scan(), spacing_mm=(1, 1, 1)), tmp_path / "x.nii.gz")
    assert read_volume(path, channels=1).channels == 1
    with pytest.raises(VolumeError, match=r"x\.nii\.gz: 1 channel; expected 2; fix: give one file per channel"):
        read_volume(path, channels=2)


def test_numbers_of_eight_bytes_are_never_copied_as_such(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(40, 128, 128))
    write_volume(Volume(array, spacing_mm=(1, 1, 1)), tmp_path / "x.nii")
    tracemalloc.start()
    volume = read_volume(tmp_path / "x.nii")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(volume.array, array.astype(np.float32))
    assert peak < volume.array.nbytes + array.size + 300_000  # float32, and a byte a voxel to look for NaN


def test_a_picture_that_stands_upright_in_the_world_is_refused_with_the_way_out(tmp_path: Path) -> None:
    upright = np.array([[0.0, 0, 1, 5], [2, 0, 0, 6], [0, 3, 0, 7], [0, 0, 0, 1]])  # sagittal: rows and columns in y, z
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4), np.int16), upright), tmp_path / "x.nii.gz")
    with pytest.raises(VolumeError, match=r"x\.nii\.gz: a 2-D image that is not in the x, y plane.*third axis"):
        read_volume(tmp_path / "x.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 1), np.int16), upright), tmp_path / "x.nii.gz")
    assert read_volume(tmp_path / "x.nii.gz").array.shape == (1, 4, 3)
