"""The reader of MetaImage: .mha, and .mhd with its voxel files.

ITK's own reader ends the process on some damaged headers, and writes to the standard error output of the whole process.
"""

from __future__ import annotations

import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.grid import Grid
from resvox.volumes.inflating import InflatedStream
from resvox.volumes.nrrd.header import numbered_names
from resvox.volumes.volume import Volume
from resvox.volumes.voxels import Stored, not_finite_error, read_voxels

MOST_HEADER_BYTES = 1 << 20
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
UNITS_MM = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "m": 1000.0, "?": 1.0, "": 1.0}
TRUE = ("true", "t", "1", "yes")
FALSE = ("false", "f", "0", "no")


class Header:
    """The fields of a header, by name; of synonyms the first one that exists."""

    def __init__(self, fields: dict[str, str], end: int, path: Path) -> None:
        self.fields, self.end, self.path = fields, end, path

    @property
    def dims(self) -> int:
        """The number of axes."""
        return self.whole("NDims", 0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Voxels along each axis, x first.

        Raises:
            VolumeError: not 2 to 7 axes, or not whole numbers above 0.
        """
        sizes = self.numbers(self.dims, "DimSize") if 2 <= self.dims <= 7 else None
        if sizes is None or min(sizes) < 1 or any(size != int(size) for size in sizes):
            shown = f"NDims = {self.text('NDims')}, DimSize = {self.text('DimSize')}"
            raise VolumeError(shown[:120], expected="2 to 7 axes of at least 1 voxel", path=self.path)
        return tuple(int(size) for size in sizes)

    @property
    def components(self) -> int:
        """Numbers per voxel.

        Raises:
            VolumeError: none.
        """
        found = self.whole("ElementNumberOfChannels", 1)
        if found < 1:
            raise VolumeError(f"ElementNumberOfChannels = {found}", expected="at least 1", path=self.path)
        return found

    @property
    def is_local(self) -> bool:
        """Whether the voxels are in the header's own file."""
        return self.text("ElementDataFile").upper() == "LOCAL"

    @property
    def is_list(self) -> bool:
        """Whether the names of the voxel files follow the header, one per line."""
        return self.text("ElementDataFile").upper().split()[:1] == ["LIST"]

    def text(self, *names: str, default: str = "") -> str:
        """The value of the first of these names that the header has."""
        return next((self.fields[name] for name in names if name in self.fields), default)

    def numbers(self, count: int, *names: str) -> list[float] | None:
        """Finite numbers, `count` of them, or None without such a field."""
        text = self.text(*names)
        if not text:
            return None
        try:
            found = [float(each) for each in text.split()]
        except ValueError:
            found = []
        if len(found) != count or not all(math.isfinite(each) for each in found):
            raise VolumeError(f"{names[0]} = {text[:60]}", expected=f"{count} numbers", path=self.path)
        return found

    def whole(self, name: str, default: int) -> int:
        """A whole number, or the default without such a field."""
        found = self.numbers(1, name)
        return default if found is None else int(found[0])

    def is_true(self, *names: str, default: str = "false") -> bool:
        """A flag; a word that is neither true nor false is refused, for a wrong guess makes noise of the voxels."""
        word = self.text(*names, default=default).strip()
        if word.lower() not in TRUE + FALSE:
            shown = word[:40].encode("ascii", "backslashreplace").decode()
            name = next((each for each in names if each in self.fields), names[0])
            raise VolumeError(f"{name} = {shown}", expected="True or False", path=self.path)
        return word.lower() in TRUE


def read_metaimage(path: Path, channels: int | None) -> Volume:
    """Read a MetaImage; see `read_volume`.

    Raises:
        VolumeError: not a MetaImage header; sizes or types that are not valid; a voxel file that is missing or
            too short; more than three axes, unless they hold as many channels as expected.
    """
    header = read_header(path)
    dims, shape, components = header.dims, header.sizes, header.components
    extra = math.prod(shape[3:])
    if extra > 1 and (components > 1 or extra != channels):
        raise VolumeError(
            f"{dims}-D image of {'x'.join(map(str, shape))} voxels (time or channels)",
            expected="a 3-D or 2-D image" + (f", or {channels} channels" if channels else ""),
            fix="split it into one file per channel",
            path=path,
        )
    array = _voxels(header, path)
    spatial = shape[:3][::-1]
    if components > 1:
        array = np.moveaxis(array.reshape(*spatial, components), -1, 0)
    else:
        array = array.reshape((extra, *spatial) if extra > 1 else spatial)
    return Volume.on_grid(array, _grid(header, dims, spatial))


def voxel_file_names(content: bytes, path: Path) -> list[str]:
    """The names, as they are written in a header, of the files that hold the voxels; none if the header's file does.

    Args:
        content: of the header's file; for voxels in the same file its beginning is enough.
        path: named in errors.

    Raises:
        VolumeError: not a MetaImage header, or no names of files in it.
    """
    head = content[:MOST_HEADER_BYTES]
    header = _parsed(head, path)
    return [] if header.is_local else _names(header, head[header.end :], path)


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises:
        VolumeError: not a MetaImage header.
    """
    with open(path, "rb") as stream:
        return _parsed(stream.read(MOST_HEADER_BYTES), path)


def _parsed(head: bytes, path: Path) -> Header:
    fields: dict[str, str] = {}
    at = 0
    while at < len(head) and "ElementDataFile" not in fields:
        end = head.find(b"\n", at)
        end = len(head) if end < 0 else end
        name, separator, value = head[at:end].decode("utf-8", "replace").partition("=")
        at = end + 1
        if name.strip() and not separator:
            break
        fields[name.strip()] = value.strip()
    if "ElementDataFile" not in fields or "NDims" not in fields:
        raise VolumeError(
            "cannot be read (no MetaImage header in it)", expected="NDims, DimSize, ..., ElementDataFile", path=path
        )
    return Header(fields, at, path)


def _grid(header: Header, dims: int, spatial: tuple[int, ...]) -> Grid:
    count = len(spatial)
    unit = header.text("DistanceUnits").strip().lower()
    if unit not in UNITS_MM:
        raise VolumeError(f"DistanceUnits = {unit[:40]}", expected="mm, um, cm or m", path=header.path)
    scale = UNITS_MM[unit]
    spacing = header.numbers(dims, "ElementSpacing", "ElementSize")
    if spacing is None:
        warnings.warn(f"{header.path}: no ElementSpacing; 1 mm is taken", UserWarning, stacklevel=2)
        spacing = [1.0] * dims
    if scale != 1.0:
        warnings.warn(f"{header.path}: its lengths are in {unit}; converted to mm", UserWarning, stacklevel=2)
    origin = header.numbers(dims, "Offset", "Position", "Origin") or [0.0] * dims
    rows = header.numbers(dims * dims, "TransformMatrix", "Orientation", "Rotation") or np.eye(dims).ravel().tolist()
    axes = np.array(rows).reshape(dims, dims)[:count, :count].T  # a row of the file is the direction of an axis
    return Grid(
        spatial,
        spacing_mm=tuple(each * scale for each in spacing[:count][::-1]),
        origin_mm=tuple(each * scale for each in origin[:count]),
        direction=np.ascontiguousarray(axes[:, ::-1]),
    )


def _voxels(header: Header, path: Path) -> npt.NDArray[Any]:
    name = header.text("ElementType")
    if name.removesuffix("_ARRAY") not in TYPES:
        raise VolumeError(f"ElementType = {name[:40]}", expected=", ".join(TYPES), path=path)
    is_big = header.is_true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    kind = np.dtype(("<", ">")[is_big] + TYPES[name.removesuffix("_ARRAY")])
    count = math.prod(header.sizes) * header.components
    files = _files(header, path)
    if len(files) not in {math.prod(header.sizes[axis:]) for axis in range(2, header.dims + 1)}:
        raise VolumeError(
            f"{len(files)} voxel files for {'x'.join(map(str, header.sizes))} voxels",
            expected=f"one file, or one per slice ({header.sizes[-1]})",
            path=path,
        )
    parts = []
    for file, offset in files:
        if not file.is_file():
            raise VolumeError(f"no voxel file {file.name} beside it", expected="the file its header names", path=path)
        parts.append(_part(header, file, offset, Stored(type=kind, count=count // len(files)), path))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _files(header: Header, path: Path) -> list[tuple[Path, int]]:
    """The files of the voxels, slice after slice, and the offsets of the voxels in them."""
    if header.is_local:
        return [(path, header.end)]
    skipped = header.whole("HeaderSize", 0)
    rest = b""
    if header.is_list:
        with open(path, "rb") as stream:
            rest = stream.read(MOST_HEADER_BYTES)[header.end :]
    return [(path.parent / name, skipped) for name in _names(header, rest, path)]


def _names(header: Header, rest: bytes, path: Path) -> list[str]:
    """The names of the voxel files; ``rest`` is what follows the fields, where they are listed."""
    named = header.text("ElementDataFile")
    words = named.split()
    if header.is_list:
        names = [line.strip() for line in rest.decode("utf-8", "replace").splitlines() if line.strip()]
    elif "%" in named and len(words) == 4:
        names = numbered_names(words[0], words[1:])
    else:
        names = [named]
    if not names or not all(names) or any("\0" in name for name in names):
        raise VolumeError(f"ElementDataFile = {named[:60]}", expected="LOCAL, or names of files", path=path)
    return names


def _part(header: Header, file: Path, offset: int, stored: Stored, path: Path) -> npt.NDArray[Any]:
    size = file.stat().st_size
    if not header.is_true("BinaryData", default="true"):
        return _numbers_in_text(file, offset, stored, path)
    if header.is_true("CompressedData", default=str("CompressedDataSize" in header.fields)):
        try:
            with InflatedStream(file, max(offset, 0)) as stream:
                return read_voxels(stream, stored, path, file_bytes=size, to_end=True)
        except (EOFError, zlib.error) as error:
            raise VolumeError(
                f"truncated or damaged compressed data ({error})",
                expected="a whole file",
                fix="copy or download it again",
                path=path,
            ) from None
    if offset < 0:
        offset = max(size - stored.end, 0)  # HeaderSize = -1: the voxels are the end of the file
    placed = Stored(type=stored.type, count=stored.count, offset=offset)
    with open(file, "rb", buffering=0) as plain:
        return read_voxels(plain, placed, path, file_bytes=size)


def _numbers_in_text(file: Path, offset: int, stored: Stored, path: Path) -> npt.NDArray[Any]:
    text = file.read_bytes()[max(offset, 0) :].decode("ascii", "replace")
    try:
        array = np.array(text.split()[: stored.count], float).astype(stored.result)
    except (ValueError, OverflowError):
        raise VolumeError(
            "voxels that are not numbers", expected="numbers, as declared by BinaryData", path=path
        ) from None
    if array.size < stored.count:
        raise VolumeError(f"truncated: {array.size} numbers", expected=f"{stored.count}", path=path)
    not_finite = array.size - int(np.count_nonzero(np.isfinite(array)))
    if not_finite:
        raise not_finite_error(not_finite, array.size)
    return array
