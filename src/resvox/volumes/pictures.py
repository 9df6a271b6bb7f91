"""PNG, JPEG and BMP: read with Pillow, PNG written with imagecodecs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from resvox.errors import VolumeError
from resvox.volumes.samples import (
    Array,
    full_range,
    through_palette,
    upright,
    without_equal_colours,
    without_opaque_alpha,
)
from resvox.volumes.volume import Volume

CONTENTS = ("PNG", "JPEG", "MPO", "BMP", "DIB")  # Pillow's names; MPO is JPEG with further pictures behind it
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I")
ORIENTATION_TAG = 274
PNG_LEVEL = 4
PNG_HEADER_BYTES = 33  # signature and IHDR
SPACING_KEY = b"spacing_mm"  # name of the text chunk in which `write_png` stores what PNG has no field for


def read_picture(path: Path, channels: int | None, *, as_labels: bool) -> Volume:
    """Read a PNG, JPEG or BMP file as a 2-D image; see `read_volume`.

    Raises:
        VolumeError: not such a file, damaged, animated, or in a colour space that is not grey or RGB.
    """
    try:
        with Image.open(path) as picture:
            _check(picture, path)
            picture.load()
            array, has_alpha = _samples(picture, path, as_labels)
            orientation = int(picture.getexif().get(ORIENTATION_TAG, 1))
            spacing = _spacing(picture.info)
    except VolumeError:
        raise
    except Exception as error:  # Pillow's decoders raise many types, OSError and SyntaxError among them
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = "not a picture in a known format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise VolumeError(f"cannot be read ({text})", expected="a whole, undamaged picture", path=path) from None
    if array.ndim == 3 and has_alpha:
        array = without_opaque_alpha(array, channels)
    if array.ndim == 3 and as_labels:
        array = without_equal_colours(array)
    array = upright(array, orientation, rows=0)
    if orientation in (5, 6, 7, 8):
        spacing = spacing[::-1]
    return Volume(np.ascontiguousarray(array if array.ndim == 2 else np.moveaxis(array, -1, 0)), spacing_mm=spacing)


def _check(picture: Image.Image, path: Path) -> None:
    if picture.format not in CONTENTS:
        raise VolumeError(f"a {picture.format} file", expected="PNG, JPEG or BMP", fix="convert it", path=path)
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise VolumeError(
            "an animated picture", expected="a single picture", fix="save its frames one by one", path=path
        )
    if picture.mode not in MODES:
        raise VolumeError(
            f"a picture in the colour space {picture.mode}", expected="grey or RGB", fix="convert it", path=path
        )


def _samples(picture: Image.Image, path: Path, as_labels: bool) -> tuple[Array, bool]:
    """(rows, columns) or (rows, columns, samples), and whether the last sample is alpha."""
    bits = _png_bits(path) if picture.format == "PNG" else 8
    if bits == 16 and picture.mode in ("LA", "RGB", "RGBA"):
        array: Array = imagecodecs.png_decode(path.read_bytes())  # Pillow would keep 8 of the 16 bits
        return array, array.ndim == 3 and array.shape[-1] in (2, 4)
    array = np.asarray(picture)
    if picture.mode == "P":
        return (array, False) if as_labels else _coloured(picture, array)
    if picture.mode == "1":
        return full_range(array, 8 if as_labels else 1).astype(np.uint8), False
    if bits < 8 and as_labels and picture.mode == "L":
        return array // (255 // (2**bits - 1)), False  # Pillow puts grey values on the scale of 8 bits
    if picture.mode.startswith("I"):
        return array.astype(np.uint16), False
    return array, picture.mode in ("LA", "RGBA")


def _png_bits(path: Path) -> int:
    """Bits per sample, from the header chunk."""
    with open(path, "rb") as stream:
        return stream.read(PNG_HEADER_BYTES)[24]


def _coloured(picture: Image.Image, indices: Array) -> tuple[Array, bool]:
    transparent = "transparency" in picture.info
    mode = "RGBA" if transparent else "RGB"
    entries = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if transparent:  # through Pillow, which supports all forms of it in PNG
        line = Image.fromarray(np.arange(len(entries), dtype=np.uint8)[np.newaxis])
        line.putpalette(entries.tobytes())
        line.info["transparency"] = picture.info["transparency"]
        entries = np.asarray(line.convert(mode))[0]
    return through_palette(indices, entries), transparent


def _spacing(info: Any) -> tuple[float, float]:
    """The spacing that `write_png` stored; otherwise 1 mm per pixel, because dots per inch describe printing."""
    noted = str(info.get(SPACING_KEY.decode(), "")).split()
    try:
        height, width = (float(each) for each in noted)
    except ValueError:
        return 1.0, 1.0
    return (height, width) if min(height, width) > 0 and np.isfinite(height + width) else (1.0, 1.0)


def write_png(volume: Volume, path: Path) -> None:
    """Write a 2-D image of uint8 or uint16, with 1 to 4 channels; its spacing goes into a text chunk."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    if array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(array), level=PNG_LEVEL))
    if volume.spacing_mm != (1.0, 1.0):
        noted = b"tEXt" + SPACING_KEY + b"\0" + " ".join(map(repr, volume.spacing_mm)).encode()
        chunk = struct.pack(">I", len(noted) - 4) + noted + struct.pack(">I", zlib.crc32(noted))
        data = data[:PNG_HEADER_BYTES] + chunk + data[PNG_HEADER_BYTES:]
    path.write_bytes(data)
