"""Compressed and damaged DICOM files: the values that went in, or a refusal that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from volumes.dicom_kinds import RANDOM, at, plane, refusal, save

from resvox.errors import VolumeError
from resvox.volumes import list_series, read_volume


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
