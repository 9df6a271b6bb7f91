"""Decompression of DICOM pixel data: pydicom's decoders, with GDCM (through SimpleITK) for the JPEG family.

pydicom alone decodes uncompressed and RLE data; for JPEG it needs further packages. GDCM comes with SimpleITK and
decodes JPEG, JPEG lossless, JPEG-LS and JPEG 2000, but gives no access to nested attributes and applies rescale and
colour conversions of its own. It is therefore given one frame at a time in a file without any of these, as a plugin of
pydicom's decoder, so that all values pass through pydicom.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder, DecodeRunner

from resvox.errors import VolumeError
from resvox.volumes.itk import reason, sitk
from resvox.volumes.silence import silently

PLUGIN = "resvox"
JPEG_FAMILY = (
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
)
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of JPEG and JPEG-LS that hold the size
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
J2K_START = b"\xff\x4f\xff\x51"


def decoded_frames(dataset: Dataset, indices: Sequence[int], **options: Any) -> Iterator[npt.NDArray[Any]]:
    """Stored values of the frames `indices`, each (rows, columns) or (rows, columns, samples), colours as RGB.

    Raises:
        VolumeError: no decoder for this compression.
        Exception: any exception of pydicom for damaged pixel data.
    """
    syntax = transfer_syntax(dataset)
    if syntax in JPEG_FAMILY:
        decoder, options = _jpeg_decoder(syntax), {**options, "decoding_plugin": PLUGIN}
    else:
        decoder = _decoder(syntax)
    for array, _ in decoder.iter_array(dataset, indices=indices, raw=False, **options):
        yield array


def transfer_syntax(dataset: Dataset) -> uid.UID:
    """How the file stores its values; DICOM's default where the file does not define it."""
    found = getattr(dataset, "file_meta", None) and dataset.file_meta.get("TransferSyntaxUID")
    if found:
        return uid.UID(found)
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _decoder(syntax: uid.UID) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise VolumeError(
            f"pixel data compressed as {syntax.name}, for which no decoder is installed",
            expected="uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
            fix="decompress it first (e.g. with gdcmconv --raw); for HTJ2K: pip install pylibjpeg pylibjpeg-openjpeg",
        )
    return decoder


@cache
def _jpeg_decoder(syntax: uid.UID) -> Decoder:
    """A separate decoder, so that pydicom's registry, which the caller may use too, is not changed."""
    decoder = Decoder(syntax)
    decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    return decoder


def is_available(syntax: uid.UID) -> bool:
    """Interface of pydicom for a module with a decoding plugin."""
    return syntax in JPEG_FAMILY


# pydicom looks up the dependencies of a plugin in this table of its module.
DECODER_DEPENDENCIES = dict.fromkeys(JPEG_FAMILY, ("SimpleITK",))


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """pydicom's plugin function: the stored values of one compressed frame, colours as they are coded."""
    _check_coded_size(source, runner)
    handle, name = tempfile.mkstemp(suffix=".dcm")
    try:
        with os.fdopen(handle, "wb") as stream:
            _bare_file(source, runner).save_as(stream, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        reader.SetImageIO("GDCMImageIO")
        array = sitk.GetArrayFromImage(silently(reader.Execute))
    except RuntimeError as error:
        raise ValueError(reason(error)) from None
    finally:
        os.unlink(name)
    expected = runner.rows * runner.columns * runner.samples_per_pixel
    if array.size != expected:
        raise ValueError(f"{array.size} values decoded, expected {expected}")
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", array.dtype.itemsize * 8)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):  # a part of the JPEG 2000 code, undone by GDCM
        runner.set_option("photometric_interpretation", "RGB")
    return bytearray(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def _bare_file(source: bytes, runner: DecodeRunner) -> Dataset:
    """A DICOM file without any attribute that GDCM could apply to the values."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")
    dataset.file_meta.TransferSyntaxUID = runner.transfer_syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, uid.UID("2.25.1")
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = runner.rows, runner.columns, runner.samples_per_pixel
    colour = runner.samples_per_pixel > 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored = runner.bits_allocated, runner.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = runner.bits_stored - 1, runner.pixel_representation
    dataset.PixelData = encapsulate([source])
    dataset["PixelData"].VR = "OB"
    return dataset


def _check_coded_size(source: bytes, runner: DecodeRunner) -> None:
    """Compare the size in the compressed data with the header's: decoders use one to read and the other to write."""
    size = _coded_size(source)
    if size is None:
        raise ValueError("compressed pixel data without a size: truncated, or of another compression")
    if size != (runner.rows, runner.columns):
        raise ValueError(f"compressed pixel data of {size[0]} x {size[1]}, expected {runner.rows} x {runner.columns}")


def _coded_size(source: bytes) -> tuple[int, int] | None:
    """(rows, columns) in a JPEG, JPEG-LS or JPEG 2000 stream, None if it holds no image."""
    start = source.find(J2K_START)
    if start >= 0 and source[:2] != b"\xff\xd8":
        right, bottom, left, top = (int.from_bytes(source[k : k + 4], "big") for k in range(start + 8, start + 24, 4))
        return bottom - top, right - left
    at = 2
    while at + 9 < len(source) and source[at] == 0xFF:
        marker = source[at + 1]
        if marker in START_OF_FRAME:
            return int.from_bytes(source[at + 5 : at + 7], "big"), int.from_bytes(source[at + 7 : at + 9], "big")
        if marker == 0xFF:
            at += 1
        else:
            at += 2 + (0 if marker in WITHOUT_LENGTH else int.from_bytes(source[at + 2 : at + 4], "big"))
    return None
