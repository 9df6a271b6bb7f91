"""NIfTI files read and written: .nii, .nii.gz, and pairs of .hdr and .img; NIfTI-1 and NIfTI-2."""

from __future__ import annotations

import math
import warnings
import zlib
from io import RawIOBase
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.formats import paired_files
from resvox.volumes.gzip_stream import GzipStream
from resvox.volumes.nifti_header import RAS_TO_LPS, THREE_D_MARK, NiftiHeader, parse_header
from resvox.volumes.volume import Volume

nib: Any = nibabel  # its functions carry no types
LONGEST_HEADER = 540
CHUNK_BYTES = 1 << 18  # a multiple of every voxel's size; small, so that conversions stay in the processor's cache
MOST_INFLATION = 1032  # deflate cannot make more bytes than this of one


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
    return GzipStream(path)


def _exactly(stream: RawIOBase, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: _fill(stream, memoryview(buffer))])


def _fill(stream: RawIOBase, view: memoryview) -> int:
    """Fill `view` as far as the stream goes; how many bytes."""
    done = 0
    while done < len(view) and (got := stream.readinto(view[done:])):
        done += got
    return done


def _read_voxels(stream: RawIOBase, header: NiftiHeader, path: Path, voxel_path: Path) -> npt.NDArray[Any]:
    needed = header.offset + header.voxels * header.stored.itemsize
    size = voxel_path.stat().st_size
    if needed > size * (MOST_INFLATION if isinstance(stream, GzipStream) else 1) + LONGEST_HEADER:
        raise _truncated(path, _drain(stream), needed)  # before memory is asked for
    skipped = _fill(stream, memoryview(bytearray(header.offset)))
    array = np.empty(header.voxels, _result_type(header))
    found, not_finite = _fill_voxels(stream, header, array)
    found += skipped
    if found < needed:
        raise _truncated(path, found, needed)
    _drain(stream)
    if not_finite:
        raise not_finite_error(not_finite, array.size)
    return array


def _truncated(path: Path, found: int, needed: int) -> VolumeError:
    return VolumeError(
        f"truncated: {found} bytes",
        expected=f"{needed} bytes, as its header promises",
        fix="copy or download it again",
        path=path,
    )


def _drain(stream: RawIOBase) -> int:
    """Read to the end, where a gzip stream has its checksum; how many bytes."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    total = 0
    while got := _fill(stream, buffer):
        total += got
    return total


def _result_type(header: NiftiHeader) -> np.dtype[Any]:
    is_scaled = (header.slope, header.intercept) != (1.0, 0.0)
    floats = header.stored.kind == "f" or (is_scaled and header.components == 1)
    return np.dtype(np.float32) if floats else header.stored.newbyteorder("=")


def _fill_voxels(stream: RawIOBase, header: NiftiHeader, array: npt.NDArray[Any]) -> tuple[int, int]:
    """Read `array` in chunks, converted and scaled; bytes read, and how many numbers are not finite."""
    stored, is_scaled = header.stored, header.components == 1 and (header.slope, header.intercept) != (1.0, 0.0)
    is_direct = stored == array.dtype and not is_scaled
    step = CHUNK_BYTES // stored.itemsize
    buffer = np.empty(0 if is_direct else step, stored)
    found = not_finite = 0
    for start in range(0, array.size, step):
        part = array[start : start + step]
        target = part if is_direct else buffer[: part.size]
        got = _fill(stream, memoryview(target.view(np.uint8).data))
        found += got
        if got < target.nbytes:
            break
        if not is_direct:
            _convert(target, part, header, is_scaled)
        if part.dtype.kind == "f":
            not_finite += part.size - int(np.count_nonzero(np.isfinite(part)))
    return found, not_finite


def _convert(stored: npt.NDArray[Any], part: npt.NDArray[Any], header: NiftiHeader, is_scaled: bool) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if is_scaled:
            np.add(stored * np.float64(header.slope), header.intercept, out=part, casting="unsafe")
        else:
            part[...] = stored


def not_finite_error(count: int, voxels: int) -> VolumeError:
    """The refusal of numbers that are NaN or infinite: never repaired in silence."""
    return VolumeError(
        f"{'all' if count >= voxels else count} of {voxels} voxels are NaN or infinite",
        expected="finite numbers",
        fix="decide what they mean and replace them, e.g. by the value of air",
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


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a NIfTI-1 file: sform and qform (scanner), millimetres; channels as components of each voxel."""
    array = volume.array
    if array.dtype in (np.dtype(np.bool_), np.dtype(np.float16)):
        array = array.astype(np.uint8 if array.dtype == np.bool_ else np.float32)
    dims = volume.spatial_dims
    is_vector = array.ndim > dims
    voxels = np.moveaxis(array, 0, -1) if is_vector else array
    voxels = voxels.transpose(*range(dims)[::-1], *range(dims, voxels.ndim))
    if is_vector:
        voxels = voxels.reshape(*voxels.shape[:dims], *(1,) * (4 - dims), voxels.shape[-1])
    affine = np.eye(4)
    affine[:dims, :dims] = RAS_TO_LPS[:dims, :dims] @ (volume.direction * volume.spacing_mm)[:, ::-1]
    affine[:dims, 3] = RAS_TO_LPS[:dims, :dims] @ np.array(volume.origin_mm)
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    if is_vector:
        image.header["intent_code"] = 1007
        image.header["descrip"] = THREE_D_MARK if dims == 3 else b""
    image.to_filename(path)
