"""NIfTI files checked before they are believed: ITK fills what a truncated file lacks with zeros."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from resvox.errors import VolumeError

CHUNK_BYTES = 1 << 20  # a multiple of every voxel's size
FLOATS = {16: "f4", 64: "f8"}  # NIfTI datatype codes whose voxels can be NaN
HEADER_BYTES = 348
NIFTI_2_HEADER_BYTES = 540
# where dim, datatype and bitpix, pixdim, and vox_offset lie in the header, and their types
LAYOUT = ((40, "8h"), (70, "2h"), (76, "8f"), (108, "f"))


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is needed of a NIfTI header to know how much there must be after it."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    offset: int
    voxel_bytes: int
    float_type: np.dtype[Any] | None


def check_nifti(path: Path) -> int:
    """Read a NIfTI file's header, and the whole stream once, and refuse a file that is not all there.

    A gzip stream is decompressed to its end, so that its checksum is compared too: half a second for a large
    CT, against zeros in place of a liver.

    Returns:
        How many of its numbers are NaN or infinite: ITK turns those into zeros without a word as well.

    Raises:
        VolumeError: not gzip, not NIfTI, damaged, truncated, or without spacing.
    """
    try:
        with _opened(path) as stream:
            return _check_stream(stream, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(
            f"truncated or damaged gzip data ({error})",
            expected="a whole .nii.gz file",
            fix="copy or download it again",
            path=path,
        ) from None


def _opened(path: Path) -> IO[bytes]:
    if not path.name.lower().endswith(".gz"):
        return open(path, "rb")
    with open(path, "rb") as stored:
        if stored.read(2) != b"\x1f\x8b":
            raise VolumeError("not gzip-compressed", expected="a .nii.gz file", fix="check what it is", path=path)
    return gzip.open(path, "rb")  # type: ignore[return-value]  # reads as any binary file


def _check_stream(stream: IO[bytes], path: Path) -> int:
    header = _header(stream.read(HEADER_BYTES), path)
    found = HEADER_BYTES + len(stream.read(header.offset - HEADER_BYTES))
    needed = header.offset + math.prod(header.shape) * header.voxel_bytes
    not_finite = 0
    while chunk := stream.read(CHUNK_BYTES):
        found += len(chunk)
        not_finite += _count_not_finite(chunk, header)
    if found < needed:
        raise VolumeError(
            f"truncated: {found} bytes",
            expected=f"{needed} bytes, as its header promises",
            fix="copy or download it again",
            path=path,
        )
    return not_finite


def _count_not_finite(data: bytes, header: Header) -> int:
    if header.float_type is None:
        return 0
    whole = len(data) - len(data) % header.voxel_bytes
    return int((~np.isfinite(np.frombuffer(data[:whole], header.float_type))).sum())


def _header(head: bytes, path: Path) -> Header:
    order = _byte_order(head, path)
    dim, (datatype, bits), pixdim, (offset,) = (struct.unpack_from(order + kind, head, at) for at, kind in LAYOUT)
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1 or bits < 1 or not 0 <= offset < 1e9:
        raise VolumeError(f"NIfTI header with sizes {dim[1 : max(count, 0) + 1]}", path=path)
    header = Header(
        shape=dim[1 : count + 1],
        spacing_mm=pixdim[1 : min(count, 3) + 1],
        offset=max(int(offset), HEADER_BYTES),
        voxel_bytes=bits // 8,
        float_type=np.dtype(order + FLOATS[datatype]) if datatype in FLOATS else None,
    )
    for size, spacing in zip(header.shape, header.spacing_mm, strict=False):
        if size > 1 and not (math.isfinite(spacing) and spacing != 0):
            raise VolumeError(
                f"NIfTI header with spacing {header.spacing_mm}", expected="numbers above 0 mm", path=path
            )
    return header


def _byte_order(head: bytes, path: Path) -> str:
    sizes = {order: struct.unpack_from(f"{order}i", head)[0] for order in "<>" if len(head) >= 4}
    for order, size in sizes.items():
        if size == HEADER_BYTES == len(head):
            return order
    if NIFTI_2_HEADER_BYTES in sizes.values():
        raise VolumeError("a NIfTI-2 file", expected="NIfTI-1", fix="save it as NIfTI-1", path=path)
    raise VolumeError("no NIfTI header in it", expected="a NIfTI image", fix="check what it is", path=path)
