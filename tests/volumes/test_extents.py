"""Sizes by header alone."""

from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage
from volumes.dicom_slices import make_slice

from resvox.errors import VolumeError
from resvox.volumes.extents import count_voxels

SHAPE = (3, 4, 5)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".hdr"])
def test_the_count_is_that_of_the_array(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".hdr":
        nibabel.save(nibabel.Nifti1Pair(np.zeros(SHAPE, np.int16), np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros(SHAPE, np.int16)), str(path))
    assert count_voxels(path) == 60


def test_pictures_and_channels_are_counted(tmp_path):
    for ending in (".png", ".tif"):
        Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / f"a{ending}")
        assert count_voxels(tmp_path / f"a{ending}") == 189


def test_a_series_is_the_sum_of_its_files(tmp_path):
    for number in range(3):
        make_slice(np.zeros((4, 5), np.int16), position=(0, 0, number)).save_as(tmp_path / f"{number}.dcm")
    (tmp_path / "notes").write_text("not DICOM")
    assert count_voxels(tmp_path) == 60


def test_a_header_of_terabytes_is_counted_and_nothing_is_read(tmp_path):
    (tmp_path / "a.nrrd").write_text("NRRD0004\ntype: short\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\n\n")
    assert count_voxels(tmp_path / "a.nrrd") == 90000**3
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(8))
    assert count_voxels(tmp_path / "a.nii") == 30000**3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.nrrd", "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nData File: /etc/passwd\n\n"),
        ("b.nrrd", "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\ndatafile: LIST\n/etc/passwd\n\n"),
        ("a.mha", "NDims = 3\nDimSize = 2 2 2\nElementDataFile = /etc/passwd\n"),
    ],
)
def test_a_header_that_names_another_file_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(VolumeError, match="voxels are in another file"):
        count_voxels(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.tif", "a.dcm"])
def test_what_is_no_header_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8bnot an image")
    if name == "a.dcm":  # reading the series decides
        assert count_voxels(tmp_path / name) == 0
    else:
        with pytest.raises(VolumeError, match=name):
            count_voxels(tmp_path / name)


HEAD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
META = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lone return.nrrd", HEAD + "# q\rdata file: secret\n\n"),
        ("form feeds.nrrd", HEAD + "# x\x0c\x0cy\ndata file: secret\n\n"),
        ("list of a dimension.nrrd", HEAD + "data file: LIST3\nsecret\n"),
        ("pattern.nrrd", HEAD + "data file: s%dcret%.0s 1 1 1 3\n"),
        ("key.nrrd", HEAD + "data file:=secret\n\n"),
        ("capitals.mha", META + "elementdatafile = LOCAL\nElementDataFile = secret\n"),
        ("beyond.nrrd", HEAD + "# x\n" * (1 << 18) + "data file: secret\n\n"),
    ],
)
def test_a_hidden_name_of_another_file_is_refused(tmp_path, name, text):
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / name).write_text(text, newline="")
    with pytest.raises(VolumeError, match=r"voxels are in another file|data file: |header of more than"):
        count_voxels(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mha", "NDims = 3\nDimSize = 9000 9000 9000\ndimsize = 1 1 1\nElementDataFile = LOCAL\n"),
        ("a.nrrd", "NRRD0004\ndimension: 3\nsizes: 9000 9000 9000\n# sizes: 1\nsizes:=1\n\n"),
    ],
)
def test_the_sizes_are_those_that_the_reader_takes(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert count_voxels(tmp_path / name) == 9000**3


def test_a_field_that_occurs_twice_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_text(HEAD + "Sizes: 1 1 1\n\n")
    with pytest.raises(VolumeError, match="'sizes' twice"):
        count_voxels(tmp_path / "a.nrrd")


def test_components_below_one_are_refused(tmp_path):
    (tmp_path / "a.mha").write_text(META + "ElementNumberOfChannels = -5\nElementDataFile = LOCAL\n")
    with pytest.raises(VolumeError, match="ElementNumberOfChannels = -5"):
        count_voxels(tmp_path / "a.mha")


def test_a_deflated_data_set_that_may_be_huge_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    slice_ = make_slice(np.zeros((40, 50), np.int16), position=(0, 0, 0))
    slice_.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    slice_.save_as(tmp_path / "a.dcm")
    assert count_voxels(tmp_path / "a.dcm") == 2000
    stream = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "without preamble.dcm").write_bytes(stream[132:])
    assert count_voxels(tmp_path / "without preamble.dcm") == 2000
    padded = stream.replace(b"UI\x16\x001.2.840.10008.1.2.1.99", b"UI\x18\x00 1.2.840.10008.1.2.1.99\n")
    assert padded != stream
    (tmp_path / "with blanks.dcm").write_bytes(padded)  # pydicom strips them
    monkeypatch.setattr("resvox.volumes.extents.MOST_INFLATED", 1000)
    for name in ("a.dcm", "without preamble.dcm", "with blanks.dcm"):
        with pytest.raises(VolumeError, match="deflated data set"):
            count_voxels(tmp_path / name)


def test_no_file_makes_the_count_of_a_folder_smaller(tmp_path):
    slice_ = make_slice(np.zeros((40, 50), np.int16), position=(0, 0, 0))
    slice_.save_as(tmp_path / "a.dcm")
    slice_.NumberOfFrames = -100_000
    slice_.save_as(tmp_path / "b.dcm")
    assert count_voxels(tmp_path) == 4000


def test_dicom_that_is_no_scan_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr("resvox.volumes.extents.MOST_INFLATED", 1000)
    slice_ = make_slice(np.zeros((40, 50), np.int16), position=(0, 0, 0))
    slice_.save_as(tmp_path / "a.dcm")
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    slice_.NumberOfFrames = 30_000
    slice_.ImageComments = f"Reading does not inflate it: {DeflatedExplicitVRLittleEndian}"
    slice_.save_as(tmp_path / "b.dcm")
    assert count_voxels(tmp_path) == 2000


def test_dicom_without_a_preamble_counts(tmp_path):
    slice_ = make_slice(np.zeros((40, 50), np.int16), position=(0, 0, 0))
    slice_.save_as(tmp_path / "whole.dcm")
    stream = (tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "with meta.dcm").write_bytes(stream[132:])
    first = re.search(rb"\x08\x00..[A-Z][A-Z]", stream, re.DOTALL)  # the first element behind the meta information
    assert first is not None
    (tmp_path / "without meta.dcm").write_bytes(stream[first.start() :])
    assert [count_voxels(path) for path in sorted(tmp_path.iterdir())] == [2000, 2000, 2000]
