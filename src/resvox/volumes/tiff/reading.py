"""TIFF: pictures and stacks, read with tifffile.

The spacing is that of a JSON file beside a stack, else ImageJ's or OME's sizes in units of length.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile

from resvox.errors import VolumeError
from resvox.volumes.samples import (
    Array,
    full_range,
    through_palette,
    upright,
    without_equal_colours,
    without_opaque_alpha,
)
from resvox.volumes.tiff.spacing_file import spacing_beside
from resvox.volumes.volume import Volume

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks on unknown tags are not useful

MOST_INFLATION = 5000  # larger than the ratio of any usual compression
ORIENTATION_TAG, X_RESOLUTION_TAG, Y_RESOLUTION_TAG = 274, 282, 283
MIN_IS_WHITE, PALETTE = 0, 3
PHOTOMETRICS = (0, 1, 2, 3, 4, 6)  # grey twice, RGB, palette, mask, YCbCr (which tifffile makes RGB)
ALPHA_SAMPLES = (1, 2)  # values of ExtraSamples
STACK_AXES = "ZIQ"  # tifffile's letters: depth, pages without meaning, an unknown axis
CHANNEL_AXES = "CS"
UNITS_MM = {
    "m": 1000.0,
    "cm": 10.0,
    "mm": 1.0,
    "inch": 25.4,
    "in": 25.4,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "\\u00b5m": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
    "å": 1e-7,
    "pm": 1e-9,
}


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """Distances between pixels in mm, as far as the file gives them in a unit of length."""

    x: float | None = None
    y: float | None = None
    z: float | None = None


def read_tiff(path: Path, channels: int | None, *, as_labels: bool) -> Volume:
    """Read a TIFF as a 2-D image or, if it has several pages, as a stack; see `read_volume`.

    Raises:
        VolumeError: damaged or truncated; pages of different sizes; time points; a colour space other than grey or RGB;
            numbers of 64 bits or complex ones.
    """
    try:
        with tifffile.TiffFile(path) as file:
            _check_chain(file, path)
            series = _main_series(file, path)
            page = series.keyframe
            _check_page(page, path)
            _check_extent(series, path)
            stack, channel_axes = _roles(series, channels, path)
            array = _ordered(series.asarray(), series, stack, channel_axes)
            array = _meant(array, page, channels, as_labels, bool(file.is_imagej))
            size, orientation = _pixel_size(file, page), _tag(page, ORIENTATION_TAG, 1)
    except VolumeError:
        raise
    except Exception as error:  # decoders and tag readers raise many types
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VolumeError(f"cannot be read ({reason})", expected="a whole, undamaged TIFF", path=path) from None
    if int(page.photometric) == MIN_IS_WHITE:
        warnings.warn(f"{path}: low values are shown white (MinIsWhite); read as stored", UserWarning, stacklevel=2)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    spacing = _spacing(size, stack is not None, path)
    array = upright(array, orientation, rows=1 if stack is not None else 0)
    if orientation in (5, 6, 7, 8):
        spacing = (*spacing[:-2], spacing[-1], spacing[-2])
    dims = len(spacing)
    return Volume(np.ascontiguousarray(array if array.ndim == dims else np.moveaxis(array, -1, 0)), spacing_mm=spacing)


def is_stack(path: Path) -> bool:
    """Whether a TIFF holds several slices; False for what cannot be read."""
    try:
        with tifffile.TiffFile(path) as file:
            _check_chain(file, path)
            return _roles(_main_series(file, path), None, path)[0] is not None
    except Exception:  # reading the file raises the error
        return False


def _check_chain(file: Any, path: Path) -> None:
    """Reject a file that ends before its last page, or whose pages form a cycle.

    tifffile reads the pages that are left of the first, and never ends with the second.
    """
    layout, stream, stored = file.tiff, file.filehandle, path.stat().st_size
    seen: set[int] = set()
    offset = file.pages.first.offset
    while offset:
        if offset in seen:
            raise VolumeError(
                f"damaged: its page {len(seen)} is followed by an earlier one",
                expected="a whole TIFF",
                fix="copy or download it again",
                path=path,
            )
        seen.add(offset)
        stream.seek(offset)
        count = stream.read(layout.tagnosize)
        if len(count) == layout.tagnosize:
            stream.seek(offset + layout.tagnosize + struct.unpack(layout.tagnoformat, count)[0] * layout.tagsize)
        following = stream.read(layout.offsetsize)
        if len(following) < layout.offsetsize or offset > stored:
            raise VolumeError(
                f"truncated: {stored} bytes, which end before its page {len(seen)} does",
                expected="a whole TIFF",
                fix="copy or download it again",
                path=path,
            )
        offset = struct.unpack(layout.offsetformat, following)[0]


def _main_series(file: Any, path: Path) -> Any:
    """The image of the file: without thumbnails, smaller levels of a pyramid and transparency masks."""
    _check_files(file, path)
    wanted = [each for each in file.series if not each.keyframe.subfiletype & 0b101] or list(file.series)
    if not wanted:
        raise VolumeError("no image in it", expected="a TIFF with one image or stack", path=path)
    if len(wanted) > 1:
        shapes = ", ".join("x".join(map(str, each.shape)) for each in wanted[:4])
        raise VolumeError(
            f"{len(wanted)} images of different sizes or types ({shapes}{', ...' if len(wanted) > 4 else ''})",
            expected="one image, or one stack of equal pages",
            fix="save them one by one",
            path=path,
        )
    return wanted[0]


def _check_files(file: Any, path: Path) -> None:
    """Reject OME-XML with the names of files in other folders: tifffile would read them as pages of this one."""
    if not file.is_ome:
        return
    try:
        described = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return  # tifffile reads the pages without it
    for element in described.iter():
        name = element.attrib.get("FileName", "")
        if PurePosixPath(name).name != name or "\\" in name or ":" in name:
            raise VolumeError(f"pages in {name[:80]!r}", expected="OME-TIFF whose files lie in one folder", path=path)


def _check_page(page: Any, path: Path) -> None:
    if page.dtype is None or page.dtype.kind not in "biuf":
        raise VolumeError(f"numbers of type {page.dtype}", expected="integers or floats of up to 32 bits", path=path)
    if page.dtype.itemsize > 4:
        kind = {"f": "floats", "i": "integers", "u": "unsigned integers"}[page.dtype.kind]
        raise VolumeError(f"64-bit {kind}", expected="numbers of up to 32 bits", fix="save it as float32", path=path)
    if page.samplesperpixel > 1 and int(page.bitspersample) % 8:
        raise VolumeError(
            f"{page.samplesperpixel} samples of {page.bitspersample} bits per pixel",
            expected="samples of 8, 16 or 32 bits",
            fix="convert it",
            path=path,
        )
    if int(page.photometric) not in PHOTOMETRICS:
        name = getattr(page.photometric, "name", page.photometric)
        raise VolumeError(f"a picture in the colour space {name}", expected="grey or RGB", fix="convert it", path=path)


def _check_extent(series: Any, path: Path) -> None:
    """Reject data beyond the end of the file, which tifffile partly fills with zeros."""
    stored, needed = path.stat().st_size, series.nbytes
    page = series.keyframe
    if series.dataoffset is not None:
        ends = [series.dataoffset + needed]
    else:
        pages = [each for each in series.pages if each is not None]
        ends = [at + count for each in pages for at, count in zip(each.dataoffsets, each.databytecounts, strict=False)]
        holes = sum(count == 0 for each in pages for count in each.databytecounts)
        segments = math.prod(page.chunked)
        if holes or len(pages) < math.prod(series.shape) // max(math.prod(page.shape), 1) or not ends:
            raise VolumeError("data are missing", expected="a whole TIFF", fix="copy or write it again", path=path)
        if any(len(each.databytecounts) < segments for each in pages):
            raise VolumeError("fewer strips or tiles than it needs", expected="a whole TIFF", path=path)
    if max(ends) > stored or needed > MOST_INFLATION * stored:
        raise VolumeError(
            f"truncated: {stored} bytes",
            expected=f"at least {max(ends)} bytes, as its header promises",
            fix="copy or download it again",
            path=path,
        )


def _roles(series: Any, channels: int | None, path: Path) -> tuple[int | None, list[int]]:
    """Which axis of the series is the depth, if any, and which are channels."""
    axes, shape = series.get_axes(False), series.get_shape(False)
    long = [at for at, size in enumerate(shape) if size > 1 and axes[at] not in "YX"]
    depth = [at for at in long if axes[at] in STACK_AXES]
    channel_axes = [at for at in long if axes[at] in CHANNEL_AXES]
    if len(depth) == 1 and not channel_axes and axes[depth[0]] != "Z" and channels == shape[depth[0]] > 1:
        return None, depth  # as many pages as there must be channels
    other = [at for at in long if at not in (*depth, *channel_axes)]
    if other or len(depth) > 1 or len(channel_axes) > 1:
        sizes = ", ".join(f"{letter} {size}" for letter, size in zip(axes, shape, strict=True) if size > 1)
        what = "time points" if [axes[at] for at in other] == ["T"] else "more axes than depth and channels"
        raise VolumeError(
            f"{what} ({sizes})",
            expected="one image or one stack",
            fix="save it without them; in ImageJ, Image > Properties sets which axis is depth (Z)",
            path=path,
        )
    return (depth[0] if depth else None), channel_axes


def _ordered(array: Array, series: Any, stack: int | None, channel_axes: list[int]) -> Array:
    """Axes as (depth, rows, columns, samples), the first and the last only where there are several."""
    axes, shape = series.get_axes(False), series.get_shape(False)
    order = [*([] if stack is None else [stack]), axes.index("Y"), axes.index("X"), *channel_axes]
    rest = [at for at in range(len(shape)) if at not in order]  # of length 1
    return array.reshape(shape).transpose(*rest, *order).reshape([shape[at] for at in order])


def _meant(array: Array, page: Any, channels: int | None, as_labels: bool, is_imagej: bool) -> Array:
    """Convert stored numbers to values: palettes, alpha, few bits."""
    bits, photometric = int(page.bitspersample), int(page.photometric)
    if array.dtype == np.bool_:
        array, bits = array.astype(np.uint8), 1
    if photometric == PALETTE and page.colormap is not None and not is_imagej:  # ImageJ's palettes are for display
        if as_labels:
            return array
        palette = page.colormap.transpose()
        return through_palette(array, (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8))
    if bits < 8 and not as_labels:
        array = full_range(array, bits)
    if page.extrasamples and int(page.extrasamples[-1]) in ALPHA_SAMPLES and page.samplesperpixel in (2, 4):
        array = without_opaque_alpha(array, channels)
    if as_labels and photometric == 2:
        array = without_equal_colours(array)
    return array


def _tag(page: Any, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _pixel_size(file: Any, page: Any) -> PixelSize:
    """From ImageJ's or OME's description. Dots per inch describe printing and are not used in any format."""
    if file.is_ome:
        return _ome_size(file.ome_metadata)
    if not file.is_imagej:
        return PixelSize()
    noted = file.imagej_metadata or {}
    unit = UNITS_MM.get(str(noted.get("unit", "")).strip().lower())
    if unit is None:
        return PixelSize()
    return PixelSize(
        x=_length(_inverse(_tag(page, X_RESOLUTION_TAG, None)), unit),
        y=_length(_inverse(_tag(page, Y_RESOLUTION_TAG, None)), unit),
        z=_length(noted.get("spacing"), unit),
    )


def _inverse(resolution: Any) -> float | None:
    """Units per pixel, from the fraction of pixels per unit."""
    return resolution[1] / resolution[0] if resolution is not None and resolution[0] > 0 else None


def _length(value: Any, unit_mm: float) -> float | None:
    try:
        length = float(value) * unit_mm
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def _ome_size(description: str | None) -> PixelSize:
    try:
        root = ElementTree.fromstring(description or "")
    except ElementTree.ParseError:
        return PixelSize()
    pixels = next((each.attrib for each in root.iter() if each.tag.rpartition("}")[2] == "Pixels"), {})
    found = {}
    for axis in "XYZ":
        unit = UNITS_MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        found[axis.lower()] = None if unit is None else _length(pixels.get(f"PhysicalSize{axis}"), unit)
    return PixelSize(**found)


def _spacing(size: PixelSize, is_stack: bool, path: Path) -> tuple[float, ...]:
    if not is_stack:
        return size.y or size.x or 1.0, size.x or size.y or 1.0
    beside = spacing_beside(path)
    if beside is not None:
        return beside
    missing = [name for name, value in (("z", size.z), ("y", size.y), ("x", size.x)) if value is None]
    if missing:
        warnings.warn(
            f"{path}: a stack that does not give the distance of its voxels along {', '.join(missing)} in a unit of "
            "length; 1 mm is taken",
            UserWarning,
            stacklevel=3,
        )
    return size.z or 1.0, size.y or 1.0, size.x or 1.0
