"""Every file of pydicom's packaged test set: pydicom's values and the file's geometry, or a line that says why not."""

from __future__ import annotations

import importlib.metadata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut

from resvox.errors import VolumeError
from resvox.volumes import Volume, read_volume

NOT_DICOM = (".py", ".pyc", ".json", ".md", ".txt", ".icc", ".gz", ".dump", ".bin")
# Files that pydicom cannot decode with the packages of the tests, or not at all; their values are checked elsewhere.
NO_REFERENCE = {
    "JPEG-lossy.dcm": "JPEG of 12 bits",
    "JPGExtended.dcm": "JPEG of 12 bits",
    "JPEG-LL.dcm": "lossless JPEG",
    "JPGLosslessP14SV1_1s_1f_8b.dcm": "lossless JPEG",
    "SC_rgb_jpeg_gdcm.dcm": "lossless JPEG",
    "bad_sequence.dcm": "lossless JPEG",
    "OT-PAL-8-face.dcm": "no transfer syntax",
    "GDCMJ2K_TextGBR.dcm": "Pillow cannot read it",
}
# Every refusal says one of these.
REASONS = (
    "which holds no scan",
    "not an image (",
    "no pixel data",
    "and 0 positions",
    "The number of bytes of pixel data is less than expected",
    "compressed pixel data of 1024 x",
    "not an image that can be read",
)


def packaged_files() -> list[Path]:
    """pydicom's own data and those of pydicom-data."""
    found = []
    for distribution in ("pydicom", "pydicom-data"):
        for file in importlib.metadata.files(distribution) or ():
            path = Path(str(file.locate()))
            if ("data_store" in path.parts or "data" in path.parts) and path.suffix not in NOT_DICOM:
                found.append(path)
    return sorted(found)


def by_pydicom(path: Path) -> np.ndarray | None:
    """Values after the modality transformation, colours as RGB in front, None where pydicom has none."""
    ds = pydicom.dcmread(path, force=True)
    try:
        array = ds.pixel_array
    except Exception:  # whatever it is that pydicom finds wrong
        return None
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, ds)
    elif ds.get("SharedFunctionalGroupsSequence"):
        item = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        array = array * float(item.RescaleSlope) + float(item.RescaleIntercept)
    else:
        array = apply_modality_lut(array, ds)
    return np.moveaxis(array, -1, 0) if array.shape[-1] == 3 else array


def check_geometry(path: Path, volume: Volume) -> None:
    ds = pydicom.dcmread(path, force=True)
    if "ImagePositionPatient" not in ds:
        names = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
        spacing = [float(v) or 1.0 for v in next(filter(None, map(ds.get, names)), (1, 1))]
        np.testing.assert_allclose(volume.spacing_mm[-2:], spacing)
        return
    row, column = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    np.testing.assert_allclose(volume.spacing_mm[1:], np.array(ds.PixelSpacing, float))
    np.testing.assert_allclose(volume.origin_mm, np.array(ds.ImagePositionPatient, float), atol=1e-9)
    expected = np.stack([np.cross(row, column), column, row], axis=1)
    np.testing.assert_allclose(volume.direction, expected, atol=1e-3)


def test_every_file_of_the_test_set_equals_pydicom_or_is_refused_in_a_line() -> None:
    read, refused = 0, 0
    for path in packaged_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                volume = read_volume(path)
            except VolumeError as error:
                text = str(error)
                assert text.startswith(f"{path}: "), text
                assert "\n" not in text
                assert any(reason in text for reason in REASONS), text
                refused += 1
                continue
            expected = by_pydicom(path)
        read += 1
        if path.name != "eCT_Supplemental.dcm":  # frames in functional groups: in test_dicom.py
            check_geometry(path, volume)
        if path.name in NO_REFERENCE:
            continue
        assert expected is not None, path
        expected = np.squeeze(expected).astype(volume.array.dtype)
        np.testing.assert_array_equal(np.squeeze(volume.array), expected, err_msg=path.name)
    assert read >= 130, (read, refused)
    assert refused >= 60, (read, refused)


# A compressed file and its uncompressed twin.
TWINS = {
    "JPEG2000.dcm": "JPEG2000_UNC.dcm",
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "SC_rgb_jpeg_gdcm.dcm": "SC_rgb.dcm",
    "SC_rgb_rle_16bit.dcm": "SC_rgb_16bit.dcm",
    "693_J2KR.dcm": "693_UNCR.dcm",
    "MR2_J2KR.dcm": "MR2_UNCR.dcm",
    "US1_J2KR.dcm": "US1_UNCR.dcm",
}


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_a_lossless_file_equals_its_uncompressed_twin(name: str, twin: str) -> None:
    paths = {path.name: path for path in packaged_files()}
    np.testing.assert_array_equal(read_volume(paths[name]).array, read_volume(paths[twin]).array)


@pytest.mark.parametrize(
    ("name", "checksum"),
    [("JPEG-LL.dcm", 2311178399), ("JPGLosslessP14SV1_1s_1f_8b.dcm", 4066046760), ("bad_sequence.dcm", 1010206615)],
)
def test_lossless_jpeg_equals_what_libjpeg_decodes(name: str, checksum: int) -> None:
    """CRC-32 of the stored values as 16-bit integers, as pylibjpeg-libjpeg 2.5.0 (under the GPL) gave them."""
    path = {path.name: path for path in packaged_files()}[name]
    intercept = int(pydicom.dcmread(path, stop_before_pixels=True).get("RescaleIntercept", 0))
    stored = (np.squeeze(read_volume(path).array) - intercept).astype("<i2")
    assert zlib.crc32(np.ascontiguousarray(stored).tobytes()) == checksum
