"""The values of DICOM image planes: decoded, without unused bits, in the units of the modality."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from resvox.errors import VolumeError
from resvox.volumes.dicom.attributes import (
    damaged,
    groups_of,
    integer,
    items_of,
    macro_of,
    numbers,
    read_dataset,
    shown,
    value_of,
)
from resvox.volumes.dicom.codecs import JPEG_FAMILY, decoded_frames, transfer_syntax
from resvox.volumes.dicom.header import Plane

INTEGER_TYPES = (np.int8, np.int16, np.int32, np.int64)
COUNTING_TYPES = (np.uint8, np.uint16, np.uint32, np.uint64)
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")  # decoded to RGB
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_planes(planes: Sequence[Plane]) -> npt.NDArray[Any]:
    """The values of planes of one size: (planes, rows, columns), or (channels, planes, rows, columns) for colours.

    Each frame's own rescale slope and intercept, or its modality lookup table, is applied. Integers stay integers where
    slope and intercept are integers too; other values are float32.

    Raises:
        VolumeError: a file is damaged or truncated, or compressed in a way that cannot be decoded.
    """
    places: dict[Path, dict[int, int]] = defaultdict(dict)
    for place, plane in enumerate(planes):
        places[plane.path][plane.index] = place
    out: npt.NDArray[Any] | None = None
    for path, place_of in places.items():
        for place, values in zip((place_of[k] for k in sorted(place_of)), _values(path, sorted(place_of)), strict=True):
            if out is None:
                out = np.empty((*values.shape[:-2], len(planes), *values.shape[-2:]), values.dtype)
            elif out.dtype != values.dtype:
                out = out.astype(np.result_type(out, values), copy=False)
            if values.shape[:-2] != out.shape[:-3] or values.shape[-2:] != out.shape[-2:]:
                raise VolumeError(f"an image of {values.shape}", expected=f"{out.shape}, as the others", path=path)
            out[..., place, :, :] = values
    assert out is not None, "no planes"
    return out


def _values(path: Path, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Frames of a file, in ascending order: (rows, columns) or (channels, rows, columns)."""
    dataset = read_dataset(path)
    if not any(name in dataset for name in PIXEL_KEYWORDS):
        raise VolumeError(
            "no pixel data: truncated, or not an image",
            expected="a DICOM image",
            fix="copy or export it again",
            path=path,
        )
    shared, each = groups_of(dataset, path)
    palette = _check_colours(dataset, path) == "PALETTE COLOR"
    frames = _stored(dataset, path, indices)
    for index in indices:
        try:
            stored = next(frames, None)
            if stored is None:
                raise ValueError("fewer frames in the pixel data than NumberOfFrames")
            if palette:
                stored = apply_color_lut(stored, dataset)
        except VolumeError as error:
            raise VolumeError(error.got, expected=error.expected, fix=error.fix, path=path) from None
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # pydicom and its decoders raise many types for damaged pixel data
            raise damaged(error, path) from None
        if stored.ndim > 2:
            yield np.moveaxis(stored, -1, 0)
        else:
            group = each[index] if index < len(each) else None
            yield _modality_values(stored, dataset, group, shared, path)


def _check_colours(dataset: Dataset, path: Path) -> str:
    """The PhotometricInterpretation, if its values can be read as grey values or RGB."""
    photometric = str(value_of(dataset, "PhotometricInterpretation", path) or "")
    samples = integer(dataset, "SamplesPerPixel", path) or 1
    if samples not in (1, 3) or (samples == 3 and photometric not in COLOURS):
        raise VolumeError(
            f"{samples} values per pixel, PhotometricInterpretation {shown(photometric) or 'missing'}",
            expected=f"grey values, a palette, or {', '.join(COLOURS)}",
            fix="convert the image to RGB first",
            path=path,
        )
    if photometric == "MONOCHROME1":
        warnings.warn(
            f"{path}: MONOCHROME1 is read with its stored values, in which low means bright; "
            "invert it where other images of the data set are MONOCHROME2",
            UserWarning,
            stacklevel=2,
        )
    return photometric


def _stored(dataset: Dataset, path: Path, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    frames = integer(dataset, "NumberOfFrames", path) or 1
    wanted = (
        [] if list(indices) == list(range(frames)) else indices
    )  # no selection: all frames, without searching for each
    if transfer_syntax(dataset) in JPEG_FAMILY or "PixelData" not in dataset:
        yield from decoded_frames(dataset, wanted)
        return
    shift, bits = _bit_field(dataset, path)
    for frame in decoded_frames(dataset, wanted, correct_unused_bits=False, view_only=True):
        yield _used_bits(frame, shift, bits) if bits < frame.dtype.itemsize * 8 else frame


def _bit_field(dataset: Dataset, path: Path) -> tuple[int, int]:
    """The position of the lowest stored bit, and the number of stored bits."""
    allocated, stored, high = (integer(dataset, name, path) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated is None:
        raise VolumeError("no BitsAllocated", expected="a DICOM image", fix="export it again", path=path)
    stored = allocated if stored is None else stored
    high = stored - 1 if high is None else high
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        raise VolumeError(
            f"BitsAllocated {allocated}, BitsStored {stored} and HighBit {high}",
            expected="BitsStored - 1 <= HighBit < BitsAllocated",
            fix="export the image again",
            path=path,
        )
    return high + 1 - stored, stored


def _used_bits(frame: npt.NDArray[Any], shift: int, bits: int) -> npt.NDArray[Any]:
    """The bits that hold the value, with its sign; other bits (old overlays) are dropped."""
    width = frame.dtype.itemsize * 8
    moved = np.left_shift(frame, width - bits - shift)
    return np.asarray(np.right_shift(moved, width - bits))  # of signed types with sign


def _modality_values(
    stored: npt.NDArray[Any], dataset: Dataset, group: Dataset | None, shared: Dataset | None, path: Path
) -> npt.NDArray[Any]:
    """Stored values through the modality lookup table or the rescale of this frame."""
    holder = macro_of(group, shared, "PixelValueTransformationSequence", path) or dataset
    tables = items_of(holder, "ModalityLUTSequence", path)
    if tables:
        return _by_table(stored, tables[0], dataset, path)
    slope = numbers(holder, "RescaleSlope", 1, path)
    intercept = numbers(holder, "RescaleIntercept", 1, path)
    if slope is None and intercept is None:
        return stored
    factor, offset = (slope or (1.0,))[0], (intercept or (0.0,))[0]
    if factor == 0:
        raise VolumeError(
            "RescaleSlope is 0: every value would be the intercept",
            expected="a RescaleSlope other than 0",
            fix="correct the attribute",
            path=path,
        )
    return _rescaled(stored, factor, offset, _stored_range(stored, dataset))


def _stored_range(stored: npt.NDArray[Any], dataset: Dataset) -> tuple[int, int]:
    """The least and the greatest integer that the file can store."""
    if stored.dtype.kind == "f":
        return 0, 0
    bits = min(int(dataset.get("BitsStored") or 64), stored.dtype.itemsize * 8)
    if stored.dtype.kind == "i":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _rescaled(stored: npt.NDArray[Any], slope: float, offset: float, limits: tuple[int, int]) -> npt.NDArray[Any]:
    if (slope, offset) == (1.0, 0.0):
        return stored
    if stored.dtype.kind != "f" and slope.is_integer() and offset.is_integer():
        low, high = sorted(value * int(slope) + int(offset) for value in limits)
        for kind in COUNTING_TYPES if low >= 0 else INTEGER_TYPES:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return _rescaled_integers(stored, int(slope), int(offset), kind)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which read_volume rejects
        return np.asarray((stored.astype(np.float64) * slope + offset).astype(np.float32))


def _rescaled_integers(stored: npt.NDArray[Any], slope: int, offset: int, kind: type[Any]) -> npt.NDArray[Any]:
    """Every result fits in `kind`, so that arithmetic with intermediate overflow is exact."""
    values = stored.astype(kind)
    wrap = 1 << (8 * np.dtype(kind).itemsize)
    with np.errstate(over="ignore"):
        if slope != 1:
            values *= np.array(slope % wrap, f"u{np.dtype(kind).itemsize}").astype(kind)
        values += np.array(offset % wrap, f"u{np.dtype(kind).itemsize}").astype(kind)
    return np.asarray(values)


def _by_table(stored: npt.NDArray[Any], item: Dataset, dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    """Values looked up in a modality table; values outside of it get its first or last entry."""
    try:
        entries, first, bits = (int(part) for part in item.LUTDescriptor)
        entries = entries or 1 << 16
        data = item.LUTData
        if isinstance(data, bytes):
            wide = len(data) >= 2 * entries
            order = "<" if transfer_syntax(dataset).is_little_endian else ">"
            table = np.frombuffer(data, f"{order}u2" if wide else "u1")[:entries]
        else:
            table = np.asarray(data, np.uint16).ravel()[:entries]
    except Exception as error:  # values are decoded here; pydicom raises many types for damaged ones
        raise damaged(error, path) from None
    if len(table) != entries or not 1 <= bits <= 16 or stored.dtype.kind == "f":
        raise VolumeError(
            f"a modality lookup table of {len(table)} entries of {bits} bits",
            expected=f"{entries} entries of at most 16 bits",
            fix="export the image again",
            path=path,
        )
    if dataset.get("PixelRepresentation") == 1 and first > 0x7FFF:
        first -= 0x10000  # stored as unsigned although pixels are signed
    places = np.clip(stored.astype(np.int64) - first, 0, entries - 1)
    return np.asarray(table.astype(np.uint8 if bits <= 8 else np.uint16)[places])
