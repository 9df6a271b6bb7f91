"""Kinds of DICOM files that are not a plain series: read with the right values, or refused by name with a way on."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from volumes.dicom_slices import make_slice

from resvox.errors import VolumeError
from resvox.volumes import list_series, read_volume

RANDOM = np.random.default_rng(5)


def plane(rows: int = 5, columns: int = 7) -> np.ndarray:
    return RANDOM.integers(0, 1000, (rows, columns)).astype(np.int16)


def at(height: float, pixels: np.ndarray | None = None, **tags: Any) -> FileDataset:
    return make_slice(plane() if pixels is None else pixels, position=(1, 2, height), **tags)


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def refusal(path: Path, **options: Any) -> str:
    """The one line that reading ends in."""
    with pytest.raises(VolumeError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "fix: " in text
    return text


def as_colour(ds: FileDataset) -> FileDataset:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3 + ds.Rows * ds.Columns % 2)
    return ds


def groups(position: tuple[float, ...] | None, **values: Any) -> Dataset:
    """A functional group with a position and, if given, a slope and an intercept, and other attributes of the frame."""
    group = Dataset()
    if position is not None:
        group.PlanePositionSequence = [Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = list(position)
    if "slope" in values:
        group.PixelValueTransformationSequence = [Dataset()]
        group.PixelValueTransformationSequence[0].RescaleSlope = values.pop("slope")
        group.PixelValueTransformationSequence[0].RescaleIntercept = values.pop("intercept", 0)
    group.FrameContentSequence = [Dataset()]
    for name, value in values.items():
        setattr(group.FrameContentSequence[0], name, value)
    return group


def enhanced(frames: np.ndarray, each: list[Dataset], sop_class: str = uid.EnhancedMRImageStorage) -> FileDataset:
    ds = make_slice(frames[0], position=None)
    del ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.NumberOfFrames, ds.PixelData = len(frames), frames.astype("<i2").tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence[0].PixelSpacing, shared.PixelMeasuresSequence[0].SliceThickness = [0.5, 0.75], 3
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], each
    return ds


# --------------------------------------------------------------------------------------------- multi-frame files


def test_several_multi_frame_files_of_one_series_are_one_volume(tmp_path: Path) -> None:
    array = np.stack([plane() for _ in range(7)])
    save(enhanced(array[4:], [groups((0, 0, 3.0 * k), slope=0.5) for k in range(4, 7)]), tmp_path / "a.dcm")
    save(enhanced(array[:4], [groups((0, 0, 3.0 * k), slope=2, intercept=1) for k in range(4)]), tmp_path / "b.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, np.concatenate([array[:4] * 2.0 + 1, array[4:] * 0.5]))
    assert volume.spacing_mm == (3.0, 0.5, 0.75)


def test_single_frames_in_enhanced_files_are_a_series(tmp_path: Path) -> None:
    array = np.stack([plane() for _ in range(3)])
    for k in range(3):
        save(enhanced(array[k : k + 1], [groups((0, 0, 2.0 * k), slope=k + 1)]), tmp_path / f"{k}.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, array * np.array([1, 2, 3]).reshape(3, 1, 1))
    alone = read_volume(tmp_path / "1.dcm")
    assert (alone.spacing_mm, alone.origin_mm) == ((3.0, 0.5, 0.75), (0.0, 0.0, 2.0))


@pytest.mark.parametrize(
    ("attribute", "what"),
    [("TemporalPositionIndex", "time points"), ("StackID", "stacks"), ("EffectiveEchoTime", "echoes")],
)
def test_frames_at_one_position_are_refused_with_what_distinguishes_them(
    attribute: str, what: str, tmp_path: Path
) -> None:
    each = [
        groups((0, 0, 2.0 * (k // 2)), **{attribute: str(k % 2 + 1) if attribute == "StackID" else k % 2 + 1})
        for k in range(6)
    ]
    text = refusal(save(enhanced(np.stack([plane() for _ in range(6)]), each), tmp_path / "t.dcm"))
    assert "two slices at one position: frame 1 and frame 2, at 0.00 mm" in text
    assert f"with {attribute} 1" in text
    assert f"several {what} in one series" in text
    assert "split the file" in text


def test_a_frame_without_a_functional_group_is_refused(tmp_path: Path) -> None:
    ds = enhanced(np.stack([plane() for _ in range(4)]), [groups((0, 0, float(k))) for k in range(3)])
    assert "multi-frame file of 4 frames and 3 positions" in refusal(save(ds, tmp_path / "x.dcm"))


def test_float_pixels_are_read(tmp_path: Path) -> None:
    array = RANDOM.normal(size=(3, 5, 7)).astype(np.float32)
    ds = enhanced(array, [groups((0, 0, 2.0 * k), slope=2, intercept=1) for k in range(3)], uid.ParametricMapStorage)
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated, ds.FloatPixelData = 32, array.astype("<f4").tobytes()
    np.testing.assert_allclose(read_volume(save(ds, tmp_path / "map.dcm")).array, array * 2.0 + 1, rtol=1e-6)


def test_a_mosaic_is_refused_by_its_name(tmp_path: Path) -> None:
    ds = at(0.0)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    text = refusal(save(ds, tmp_path / "m.dcm"))
    assert "a mosaic (MOSAIC in ImageType)" in text
    assert "dcm2niix" in text


# -------------------------------------------------------------------------------------------- odd ones in series


def test_a_colour_image_among_grey_slices_is_named(tmp_path: Path) -> None:
    for k in range(4):
        save(as_colour(at(2.0 * k)) if k == 2 else at(2.0 * k), tmp_path / f"{k}.dcm")
    text = refusal(tmp_path)
    assert "slices of different colours in one series: 3 values per pixel (RGB) in 2.dcm" in text


def test_one_file_name_in_two_folders_is_told_apart(tmp_path: Path) -> None:
    for k in range(3):
        for copy in "ab":
            ds = at(2.0 * k)
            ds.EchoTime = 2.5 if copy == "a" else 5
            save(ds, tmp_path / copy / f"{k}.dcm")
    text = refusal(tmp_path)
    assert "a/0.dcm and b/0.dcm" in text
    assert "with EchoTime 2.5 and 5" in text
    assert "several echoes" in text


def test_a_copy_of_a_slice_is_called_a_copy(tmp_path: Path) -> None:
    for k in range(3):
        save(at(2.0 * k), tmp_path / f"{k}.dcm")
    shutil.copy(tmp_path / "1.dcm", tmp_path / "copy.dcm")
    text = refusal(tmp_path)
    assert "1.dcm and copy.dcm, at 2.00 mm, the same image twice" in text
    assert "fix: remove one of the two" in text


def test_radiographs_of_one_series_are_to_be_named_one_by_one(tmp_path: Path) -> None:
    for k in range(3):
        save(make_slice(plane(), position=None), tmp_path / f"{k}.dcm")
    text = refusal(tmp_path)
    assert "3 of 3 slices without a position" in text
    assert "name each file by itself" in text


def test_a_fault_in_one_series_does_not_hide_the_others(tmp_path: Path) -> None:
    array = np.stack([plane() for _ in range(3)])
    for k in range(3):
        save(at(2.0 * k, array[k]), tmp_path / f"{k}.dcm")
        bad = at(2.0 * k, series_uid="1.2.9", number=9)
        bad.ImageType = ["DERIVED", "SECONDARY", "MOSAIC"]
        save(bad, tmp_path / f"bad{k}.dcm")
    assert [series.number for series in list_series(tmp_path)] == [1, 9]
    np.testing.assert_array_equal(read_volume(tmp_path, series=1).array, array)
    assert "mosaic" in refusal(tmp_path, series=9)


# ---------------------------------------------------------------------------------------------------- no spacing


@pytest.mark.parametrize("attribute", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_that_lacks_a_part_of_its_place_is_refused(attribute: str, tmp_path: Path) -> None:
    ds = at(0.0)
    delattr(ds, attribute)
    assert f"x.dcm: a slice without {attribute}; expected" in refusal(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize(
    "spacing", [["0.5"], ["0", "0"], ["-1", "1"], ["0,5", "0,5"], ["abc", "1"], ["nan", "1"], ["1", "1", "1"]]
)
def test_a_spacing_that_is_none_is_refused(spacing: list[str], tmp_path: Path) -> None:
    ds = at(0.0)
    text = "\\".join(spacing)
    element = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("PixelSpacing"),
        "DS",
        len(text) + len(text) % 2,
        text.ljust(len(text) + len(text) % 2).encode(),
        0,
        False,
        True,
    )
    ds._dict[element.tag] = element  # past pydicom's own checks
    assert "spacing" in refusal(save(ds, tmp_path / "x.dcm")).lower()


def test_a_single_slice_without_thickness_is_1_mm_with_a_warning(tmp_path: Path) -> None:
    ds = at(0.0)
    del ds.SliceThickness
    with pytest.warns(UserWarning, match=r"x\.dcm: a single slice without SliceThickness"):
        assert read_volume(save(ds, tmp_path / "x.dcm")).spacing_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("attribute", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_a_radiograph_has_the_size_of_its_detector(attribute: str, tmp_path: Path) -> None:
    ds = make_slice(plane(), position=None)
    del ds.PixelSpacing
    setattr(ds, attribute, [0.2, 0.1])
    assert read_volume(save(ds, tmp_path / "x.dcm")).spacing_mm == (0.2, 0.1)


@pytest.mark.parametrize("spacing", [None, [0, 0]])
def test_a_radiograph_without_a_size_is_1_mm_with_a_warning(spacing: list[int] | None, tmp_path: Path) -> None:
    ds = make_slice(plane(), position=None)
    ds.PixelSpacing = spacing
    with pytest.warns(UserWarning, match=r"x\.dcm: an image without PixelSpacing is read with pixels of 1 x 1 mm"):
        assert read_volume(save(ds, tmp_path / "x.dcm")).spacing_mm == (1.0, 1.0)


# -------------------------------------------------------------------------------------------------------- values


def test_monochrome1_keeps_its_values_with_a_warning(tmp_path: Path) -> None:
    pixels = plane()
    ds = at(0.0, pixels, slope=0.5, intercept=-3)
    ds.PhotometricInterpretation = "MONOCHROME1"
    with pytest.warns(UserWarning, match=r"x\.dcm: MONOCHROME1 is read with its stored values"):
        np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "x.dcm")).array[0], pixels * 0.5 - 3)


@pytest.mark.parametrize(
    ("depth", "packed"), [(8, "bytes"), *((depth, words) for depth in (8, 10, 12, 16) for words in ("US", "OW"))]
)
@pytest.mark.parametrize("first", [-40, 0, 300])
def test_a_modality_table_is_looked_up(depth: int, first: int, packed: str, tmp_path: Path) -> None:
    table = RANDOM.integers(0, 1 << depth, 100)
    pixels = RANDOM.integers(-100, 500, (5, 7)).astype(np.int16)
    ds = at(0.0, pixels)
    del ds.RescaleSlope, ds.RescaleIntercept
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [100, first, depth])
    item.ModalityLUTType = "HU"
    words = [int(v) for v in table] if packed == "US" else table.astype("<u2" if packed == "OW" else "u1").tobytes()
    item.add_new("LUTData", "US" if packed == "US" else "OW", words)
    ds.ModalityLUTSequence = [item]
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    np.testing.assert_array_equal(found, table[np.clip(pixels.astype(int) - first, 0, 99)])


@pytest.mark.parametrize(("slope", "intercept"), [(None, -1024), (2, None), (None, None)])
def test_half_a_rescale_is_completed(slope: float | None, intercept: float | None, tmp_path: Path) -> None:
    pixels = plane()
    ds = at(0.0, pixels)
    for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    np.testing.assert_array_equal(found, pixels.astype(int) * (slope or 1) + (intercept or 0))


@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, -1024), (-1, 0), (3, 7), (-5, 70_000), (1_000_000, 0), (2, 1 << 40)]
)
@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("signed", [0, 1])
def test_integers_with_an_integer_rescale_are_exact_integers(
    slope: int, intercept: int, bits: int, signed: int, tmp_path: Path
) -> None:
    allocated = 8 if bits == 8 else 16 if bits <= 16 else 32
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = RANDOM.integers(low, high, (4, 6), endpoint=True)
    pixels[0, :2] = low, high
    ds = at(0.0, np.zeros((4, 6)), slope=slope, intercept=intercept)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, bits - 1, signed
    ds.PixelData = pixels.astype(f"{'i' if signed else 'u'}{allocated // 8}").tobytes()
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found.astype(object), pixels.astype(object) * slope + intercept)


def test_a_slope_of_0_is_refused(tmp_path: Path) -> None:
    assert "RescaleSlope is 0" in refusal(save(at(0.0, slope=0), tmp_path / "x.dcm"))


@pytest.mark.parametrize("photometric", ["HSV", "YBR_PARTIAL_422", "CMYK"])
def test_colours_that_are_not_converted_are_refused(photometric: str, tmp_path: Path) -> None:
    ds = as_colour(at(0.0))
    ds.PhotometricInterpretation = photometric
    assert f"PhotometricInterpretation {photometric}" in refusal(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("high_bit", [6, 16])
def test_an_impossible_high_bit_is_refused(high_bit: int, tmp_path: Path) -> None:
    ds = at(0.0)
    ds.BitsStored, ds.HighBit = 12, high_bit
    assert "HighBit" in refusal(save(ds, tmp_path / "x.dcm"))


# ---------------------------------------------------------------------------------------- compressed and damaged


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [0, 1])
def test_a_compressed_frame_has_the_values_that_went_in(
    syntax: uid.UID, bits: int, signed: int, tmp_path: Path
) -> None:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    pixels = RANDOM.integers(low, high, (8, 40)).repeat(5, axis=0)
    ds = at(0.0, np.zeros((40, 40)))
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8 if bits == 8 else 16, bits, bits - 1, signed
    ds.compress(syntax, pixels.astype(kind))
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "x.dcm")).array[0], pixels)


def test_what_gdcm_cannot_decode_goes_to_pydicoms_decoders(tmp_path: Path) -> None:
    """There is no encoder of HTJ2K here; OpenJPEG, which pydicom finds for it, reads JPEG 2000 by this name too."""
    pixels = RANDOM.integers(0, 1000, (40, 40)).astype(np.int16)
    ds = at(0.0, np.zeros((40, 40)))
    ds.compress(uid.JPEG2000Lossless, pixels)
    ds.file_meta.TransferSyntaxUID = uid.HTJ2KLossless
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "x.dcm")).array[0], pixels)


def test_a_compression_without_a_decoder_is_named(tmp_path: Path) -> None:
    ds = at(0.0)
    ds.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    ds.PixelData = encapsulate([b"\0" * 64])
    text = refusal(save(ds, tmp_path / "x.dcm"))
    assert "pixel data compressed as MPEG2" in text


def test_compressed_data_of_another_size_are_refused_before_decoding(tmp_path: Path) -> None:
    ds = at(0.0, np.zeros((40, 40)))
    ds.compress(uid.JPEG2000Lossless, RANDOM.integers(0, 99, (40, 40)).astype(np.int16))
    ds.Rows = 60_000
    assert "damaged DICOM file (compressed pixel data of 40 x 40, expected 60000 x 40)" in refusal(
        save(ds, tmp_path / "x.dcm")
    )


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    whole = save(at(0.0), tmp_path / "x.dcm").read_bytes()
    for length in range(7, len(whole), 7):
        (tmp_path / "x.dcm").write_bytes(whole[:length])
        assert "x.dcm: " in refusal(tmp_path / "x.dcm")


def test_an_empty_file_among_slices_is_named(tmp_path: Path) -> None:
    for k in range(3):
        save(at(2.0 * k), tmp_path / f"{k}.dcm")
    (tmp_path / "1.dcm").write_bytes(b"")
    assert "1.dcm: the file is empty (0 bytes)" in refusal(tmp_path)


def test_a_broken_link_among_slices_is_named_and_a_pipe_passed_over(tmp_path: Path) -> None:
    for k in range(3):
        save(at(2.0 * k), tmp_path / f"{k}.dcm")
    os.mkfifo(tmp_path / "pipe")
    assert read_volume(tmp_path).grid.shape[0] == 3
    (tmp_path / "3.dcm").symlink_to(tmp_path / "gone.dcm")
    assert "3.dcm: cannot be opened (No such file or directory)" in refusal(tmp_path)
    with pytest.raises(VolumeError, match=r"3\.dcm: cannot be opened"):
        list_series(tmp_path)


def test_a_slice_with_a_damaged_preamble_is_not_passed_over(tmp_path: Path) -> None:
    for k in range(4):
        save(at(2.0 * k), tmp_path / f"{k}")
    data = bytearray((tmp_path / "3").read_bytes())
    data[129] ^= 1
    (tmp_path / "3").write_bytes(data)
    assert f"{tmp_path / '3'}: " in refusal(tmp_path)


def test_files_without_a_preamble_are_read(tmp_path: Path) -> None:
    array = np.stack([plane() for _ in range(3)])
    for k in range(3):
        ds = at(2.0 * k, array[k])
        pydicom.dcmwrite(tmp_path / f"{k}", Dataset(ds), implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_volume(tmp_path).array, array)


# -------------------------------------------------------------------------------------------------- not an image


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (uid.SegmentationStorage, "a DICOM segmentation (SEG)"),
        (uid.RTStructureSetStorage, "a radiotherapy object"),
        (uid.ComprehensiveSRStorage, "a structured report"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "a presentation state"),
        (uid.EncapsulatedPDFStorage, "an encapsulated document"),
        (uid.RawDataStorage, "raw data"),
        (uid.UID("1.3.12.2.1107.5.9.1"), "a Siemens object without pixels"),
    ],
)
@pytest.mark.parametrize("with_meta", [True, False])
def test_what_is_no_image_is_passed_over_in_a_folder_and_refused_alone(
    sop_class: uid.UID, kind: str, with_meta: bool, tmp_path: Path
) -> None:
    array = np.stack([plane() for _ in range(3)])
    for k in range(3):
        save(at(2.0 * k, array[k]), tmp_path / f"{k}.dcm")
    ds = make_slice(plane(), position=None)
    del ds.PixelData, ds.Rows, ds.Columns
    ds.SOPClassUID = sop_class
    if with_meta:
        ds.file_meta.MediaStorageSOPClassUID = sop_class
    other = save(ds, tmp_path / "other.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path).array, array)
    assert f"other.dcm: {kind}" in refusal(other)
    assert "which holds no scan" in refusal(other)


def test_an_unknown_object_without_pixels_is_told_by_both_of_its_classes(tmp_path: Path) -> None:
    for k in range(3):
        save(at(2.0 * k), tmp_path / f"{k}.dcm")
    ds = at(6.0)
    del ds.PixelData, ds.Rows, ds.Columns
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.UID("1.3.99.1")
    other = save(ds, tmp_path / "other.dcm")
    assert read_volume(tmp_path).grid.shape[0] == 3
    assert "other.dcm: a vendor's object without pixels (1.3.99.1), which holds no scan" in refusal(other)
    other.write_bytes(other.read_bytes().replace(b"1.3.99.1", b"1.3.99.7", 1))  # or a slice with a damaged class
    assert "other.dcm: damaged DICOM file, or not an image" in refusal(tmp_path)


def test_the_directory_of_a_disc_is_refused_alone_and_passed_over_with_its_files(
    pydicom_files: Path, tmp_path: Path
) -> None:
    directory = pydicom_files / "dicomdirtests" / "DICOMDIR"
    text = refusal(directory)
    assert "a DICOM directory (DICOMDIR), which holds no scan" in text
    assert "the folder of its series" in text
    array = np.stack([plane() for _ in range(3)])
    for k in range(3):
        save(at(2.0 * k, array[k]), tmp_path / "IMAGES" / f"IM{k}")
    shutil.copy(directory, tmp_path / "DICOMDIR")
    np.testing.assert_array_equal(read_volume(tmp_path).array, array)


def test_a_file_with_no_image_and_no_kind_is_not_passed_over(tmp_path: Path) -> None:
    for k in range(3):
        save(at(2.0 * k), tmp_path / f"{k}.dcm")
    ds = at(6.0)
    del ds.Rows
    save(ds, tmp_path / "3.dcm")
    assert "3.dcm: damaged DICOM file, or not an image (0 Rows, 7 Columns)" in refusal(tmp_path)


def test_pydicoms_remarks_on_invalid_values_are_not_shown(tmp_path: Path) -> None:
    ds = at(0.0)
    ds.SeriesInstanceUID = uid.UID("not a uid")
    path = save(ds, tmp_path / "x.dcm")
    with warnings.catch_warnings(record=True) as heard:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\b")  # as at import; pytest resets it
        read_volume(path)
    assert not heard


def test_our_decoder_leaves_pydicoms_own_alone() -> None:
    from pydicom.pixels import get_decoder

    from resvox.volumes import dicom_codecs

    for syntax in dicom_codecs.JPEG_FAMILY:
        assert dicom_codecs.PLUGIN not in get_decoder(syntax).available_plugins
