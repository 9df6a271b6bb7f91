"""Multi-frame files, odd slices, missing attributes, and what is no image: read, or refused with a way on."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from volumes.dicom_kinds import RANDOM, as_colour, at, enhanced, groups, plane, refusal, save
from volumes.dicom_slices import make_slice

from resvox.volumes import list_series, read_volume


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

    from resvox.volumes.dicom import codecs as dicom_codecs

    for syntax in dicom_codecs.JPEG_FAMILY:
        assert dicom_codecs.PLUGIN not in get_decoder(syntax).available_plugins
