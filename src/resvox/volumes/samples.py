"""Conversions for pictures of all formats: palettes, alpha, orientation, few bits per pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# EXIF and TIFF orientation -> (rows and columns exchanged, then rows reversed, then columns reversed) to stand upright
UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright(array: Array, orientation: int, rows: int) -> Array:
    """Rotate and mirror a picture to its displayed orientation.

    Args:
        array: rows on axis `rows`, columns on the next axis.
        orientation: the EXIF or TIFF orientation, 1 to 8; other values count as 1, which changes nothing.
        rows: the axis of the rows.
    """
    exchanged, flipped, mirrored = UPRIGHT.get(orientation, UPRIGHT[1])
    if exchanged:
        array = np.swapaxes(array, rows, rows + 1)
    if flipped:
        array = np.flip(array, rows)
    return np.flip(array, rows + 1) if mirrored else array


def full_range(array: Array, bits: int) -> Array:
    """Grey values of fewer than 8 bits on the scale of uint8, white being 255; others unchanged."""
    return array.astype(np.uint8) * np.uint8(255 // (2**bits - 1)) if bits < 8 else array


def through_palette(indices: Array, palette: Array) -> Array:
    """The colours of palette indices: (..., colours) uint8, or (...) where every colour used is grey.

    Args:
        indices: (...) whole numbers.
        palette: (entries, 3 or 4) uint8; missing entries are black.
    """
    entries = np.zeros((int(indices.max()) + 1, palette.shape[1]), np.uint8)
    entries[: len(palette)] = palette[: len(entries)]
    used = entries[np.unique(indices)]
    is_grey = (used[:, 0] == used[:, 1]).all() and (used[:, 0] == used[:, 2]).all()
    if is_grey and (palette.shape[1] == 3 or (used[:, 3] == 255).all()):
        return entries[:, 0][indices]
    return entries[indices]


def without_opaque_alpha(array: Array, channels: int | None) -> Array:
    """Remove the last sample of (..., samples), the alpha, if it is opaque and not one of the expected channels."""
    count = array.shape[-1]
    opaque = 1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    if count == channels or not (array[..., -1] == opaque).all():
        return array
    return array[..., 0] if count == 2 else array[..., :-1]


def without_equal_colours(array: Array) -> Array:
    """A label map whose red, green and blue are equal as one channel: (..., samples) -> (...); others unchanged."""
    if array.shape[-1] == 3 and (array[..., :1] == array).all():
        return array[..., 0]
    return array
