"""NIfTI files checked before they are believed: ITK fills what is missing from a truncated file with zeros."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from resvox.errors import VolumeError

CHUNK_BYTES = 1 << 20
# sizeof_hdr: (header bytes, offset and format of dim, of bitpix, of pixdim, of vox_offset); NIfTI-1 and NIfTI-2
LAYOUTS = {
    348: (348, (40, "8h"), (72, "h"), (76, "8f"), (108, "f")),
    540: (540, (16, "8q"), (14, "h"), (104, "8d"), (168, "q")),
}


def check_nifti(path: Path) -> None:
    """Read a NIfTI file's header, and the whole stream once, and refuse a file that is not all there.

    A gzip stream is decompressed to its end, so that its checksum is compared too: half a second for a large CT,
    against zeros in place of a liver.

    Raises:
        VolumeError: not gzip, not NIfTI, damaged, truncated, or without spacing.
    """
    try:
        if path.name.lower().endswith(".gz"):
            with open(path, "rb") as stored:
                if stored.read(2) != b"\x1f\x8b":
                    raise VolumeError(
                        "not gzip-compressed", expected="a .nii.gz file", fix="check what it is", path=path
                    )
            with gzip.open(path, "rb") as stream:
                _check_stream(stream, path)  # type: ignore[arg-type]
        else:
            with open(path, "rb") as stream:
                _check_stream(stream, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(
            f"truncated or damaged gzip data ({error})",
            expected="a whole .nii.gz file",
            fix="copy or download it again",
            path=path,
        ) from None


def _check_stream(stream: BinaryIO, path: str | os.PathLike[str]) -> None:
    head = stream.read(540)
    needed = _needed_bytes(head, path)
    found = len(head)
    while chunk := stream.read(CHUNK_BYTES):
        found += len(chunk)
    if found < needed:
        raise VolumeError(
            f"truncated: {found} bytes",
            expected=f"{needed} bytes, as its header promises",
            fix="copy or download it again",
            path=path,
        )


def _needed_bytes(head: bytes, path: str | os.PathLike[str]) -> int:
    for order in "<>":
        layout = LAYOUTS.get(struct.unpack_from(f"{order}i", head)[0]) if len(head) >= 4 else None
        if layout and len(head) >= layout[0]:
            break
    else:
        raise VolumeError(
            "no NIfTI header in it", expected="a NIfTI image", fix="check what it is", path=path
        )
    _, dim_at, bits_at, spacing_at, offset_at = layout
    dim, (bits,), spacing, (offset,) = (
        struct.unpack_from(order + kind, head, at) for at, kind in (dim_at, bits_at, spacing_at, offset_at)
    )
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1 or bits < 1:
        raise VolumeError(f"NIfTI header with sizes {dim[1 : max(count, 0) + 1]}", path=path)
    for size, step in zip(dim[1:4], spacing[1:4], strict=True):
        if size > 1 and count >= 2 and not (math.isfinite(step) and step != 0):
            raise VolumeError(
                f"NIfTI header with spacing {spacing[1:4]}", expected="numbers above 0 mm", path=path
            )
    voxels: int = math.prod(dim[1 : count + 1])
    return int(offset) + voxels * int(bits) // 8
