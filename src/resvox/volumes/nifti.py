"""NIfTI files read and written: .nii, .nii.gz, and pairs of .hdr and .img; NIfTI-1 and NIfTI-2."""

from __future__ import annotations

import math
import warnings
import zlib
from gzip import GzipFile
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.deflating import deflating
from resvox.volumes.formats import paired_files
from resvox.volumes.inflating import InflatedStream
from resvox.volumes.nifti_fields import encoded_header
from resvox.volumes.nifti_header import RAS_TO_LPS, THREE_D_MARK, NiftiHeader, parse_header
from resvox.volumes.volume import Volume
from resvox.volumes.voxels import Stored, fill, read_voxels

LONGEST_HEADER = 540
LABELS, VECTOR = 1002, 1007  # intent codes
WRITTEN_AT_ONCE = 1 << 24  # bytes


def read_nifti(path: Path, channels: int | None) -> Volume:
    """Read a NIfTI image; see `read_volume`.

    The voxels are read in one pass to the end of the file, so a gzip stream's checksum is compared too.

    Raises:
        VolumeError: not NIfTI, damaged, truncated, without a rectangular grid, more than 3-D, not finite.
    """
    pair = paired_files(path)
    header_path, voxel_path = pair or (path, path)
    for each in (header_path, voxel_path):
        if not each.is_file():
            raise VolumeError(f"no {each.name} beside it", expected="a header and a voxel file of one name", path=path)
    try:
        with _opened(header_path) as stream:
            head = _exactly(stream, LONGEST_HEADER)
        header = parse_header(head, path, pair=pair is not None)
        _check_channels(header, channels, path)
        with _opened(voxel_path) as stream:
            array = _read_voxels(stream, header, path, voxel_path)
    except (EOFError, zlib.error) as error:
        raise VolumeError(
            f"truncated or damaged gzip data ({error})",
            expected="a whole .gz file",
            fix="copy or download it again",
            path=path,
        ) from None
    for remark in header.remarks:
        warnings.warn(f"{path}: {remark}", UserWarning, stacklevel=2)
    return Volume(
        _shaped(array, header, channels),
        spacing_mm=header.spacing_mm,
        origin_mm=header.origin_mm,
        direction=header.direction,
    )


def _opened(path: Path) -> RawIOBase:
    if not path.name.lower().endswith(".gz"):
        stream = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by the caller
        if stream.read(2) == b"\x1f\x8b":
            stream.close()
            raise VolumeError("gzip-compressed", expected="a plain file", fix="name it with .gz at the end", path=path)
        stream.seek(0)
        return stream
    with open(path, "rb") as stored:
        if stored.read(2) != b"\x1f\x8b":
            raise VolumeError("not gzip-compressed", expected="a .nii.gz file", fix="check what it is", path=path)
    return InflatedStream(path)


def _exactly(stream: RawIOBase, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: fill(stream, memoryview(buffer))])


def _read_voxels(stream: RawIOBase, header: NiftiHeader, path: Path, voxel_path: Path) -> npt.NDArray[Any]:
    is_scaled = header.components == 1 and (header.slope, header.intercept) != (1.0, 0.0)
    return read_voxels(
        stream,
        Stored(
            type=header.stored,
            count=header.voxels,
            offset=header.offset,
            scale=(header.slope, header.intercept) if is_scaled else None,
        ),
        path,
        file_bytes=voxel_path.stat().st_size,
        to_end=True,
    )


def _check_channels(header: NiftiHeader, channels: int | None, path: Path) -> None:
    """Refuse more than three axes unless they are components of a voxel, or as many as there must be channels."""
    extra = math.prod(header.sizes[3:])
    if extra == 1 or (header.is_vector and header.components == 1):
        return
    if extra != channels or header.components > 1:
        raise VolumeError(
            f"{len(header.sizes)}-D image of {'x'.join(map(str, header.sizes))} voxels (time or channels)",
            expected="a 3-D or 2-D image" + (f", or {channels} channels" if channels else ""),
            fix="split it into one file per channel: case_0000.nii.gz, case_0001.nii.gz, ...",
            path=path,
        )


def _shaped(array: npt.NDArray[Any], header: NiftiHeader, channels: int | None) -> npt.NDArray[Any]:
    spatial = header.sizes[: header.spatial_dims][::-1]
    if header.components > 1:
        return np.moveaxis(array.reshape(*spatial, header.components), -1, 0)
    extra = array.size // math.prod(spatial)
    return array.reshape((extra, *spatial) if extra > 1 else spatial)


def write_nifti(volume: Volume, path: Path, *, is_label_map: bool = False) -> None:
    """Write a NIfTI-1 file: sform and qform (scanner), millimetres; channels as components of each voxel.

    A label map gets the intent code of one, by which viewers choose a lookup table instead of grey values.
    """
    array = volume.array
    if array.dtype in (np.dtype(np.bool_), np.dtype(np.float16)):
        array = array.astype(np.uint8 if array.dtype == np.bool_ else np.float32)
    dims = volume.spatial_dims
    sizes = volume.grid.shape[::-1]
    intent, description = LABELS if is_label_map else 0, b""
    if array.ndim > dims:  # channels along the fifth axis
        sizes = (*sizes, *(1,) * (4 - dims), len(array))
        intent, description = VECTOR, THREE_D_MARK if dims == 3 else b""
    affine = np.eye(4)
    affine[:dims, :dims] = RAS_TO_LPS[:dims, :dims] @ (volume.direction * volume.spacing_mm)[:, ::-1]
    affine[:dims, 3] = RAS_TO_LPS[:dims, :dims] @ np.array(volume.origin_mm)
    header = encoded_header(sizes, array.dtype, affine, intent=intent, description=description)
    with open(path, "wb") as stored:
        if path.name.lower().endswith(".gz"):
            with deflating(stored) as stream:
                _write_parts(stream, header, array)
        else:
            _write_parts(stored, header, array)


def _write_parts(stream: IO[bytes] | GzipFile, header: bytes, array: npt.NDArray[Any]) -> None:
    stream.write(header)
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    for start in range(0, len(plain), WRITTEN_AT_ONCE):
        stream.write(plain[start : start + WRITTEN_AT_ONCE].data)
