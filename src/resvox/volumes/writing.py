"""Volumes into files, whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import numpy as np

from resvox.errors import VolumeError
from resvox.volumes.formats import WRITTEN_ENDINGS, ImageFormat, ending_of, format_of
from resvox.volumes.itk import image_of, quiet, reason, sitk
from resvox.volumes.nifti import write_nifti
from resvox.volumes.volume import Volume

COMPRESSION = {"PNG": 4}  # zlib levels by format; 1 is nearly as small for label maps


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a volume atomically: `path` is the old file or the whole new one, whatever happens in between.

    The parent folder is made. The format follows the ending: .nii.gz, .nii, .nrrd, .mha; .png and .tif for
    images.

    Returns:
        The path written.

    Raises:
        VolumeError: an ending that is not one of these; numbers the format cannot hold; a folder or disk that
            does not take it.
    """
    path = Path(path)
    ending = _ending(path)
    _check_format(volume, ending, path)
    temporary = path.with_name(f".{path.name[: -len(ending)]}.{secrets.token_hex(4)}.partial{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(volume, temporary, ending)
        _to_disk(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError, VolumeError) as error:
        raise VolumeError(
            f"could not be written ({_why(error)})",
            expected="a folder that can be written to and room on its disk",
            fix="free some space, or choose another place",
            path=path,
        ) from None
    finally:
        if temporary.exists():
            temporary.unlink()
    return path


def write_label_map(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a label map (*spatial) in the smallest unsigned type for its values, as `write_volume` writes.

    Raises:
        VolumeError: a channel axis, values that are not whole numbers from 0 on, or as in `write_volume`.
    """
    labels = volume.array
    whole = labels.dtype.kind in "biu" or bool(np.isfinite(labels).all() and (labels == np.rint(labels)).all())
    if labels.ndim != volume.spatial_dims or not whole or labels.min() < 0:
        raise VolumeError(
            f"array of shape {labels.shape}, type {labels.dtype}, from {labels.min()} on",
            expected="a label map: one whole number from 0 on for each voxel",
            path=path,
        )
    return write_volume(volume.with_array(labels.astype(np.min_scalar_type(int(labels.max())))), path)


def _ending(path: Path) -> str:
    ending = ending_of(path)
    if ending in WRITTEN_ENDINGS:
        return ending
    raise VolumeError(
        f"cannot write a file named {path.name!r}",
        expected=f"a name ending in {', '.join(WRITTEN_ENDINGS)}",
        path=path,
    )


def _check_format(volume: Volume, ending: str, path: Path) -> None:
    if ending == ".png" and (volume.spatial_dims != 2 or volume.array.dtype not in (np.uint8, np.uint16, np.bool_)):
        raise VolumeError(
            f"{volume.spatial_dims}-D image of type {volume.array.dtype}",
            expected="a 2-D image of uint8 or uint16 for .png",
            fix="write .nii.gz",
            path=path,
        )


def _write(volume: Volume, path: Path, ending: str) -> None:
    row = format_of(path)
    assert row is not None
    if row.name == "NIfTI":
        write_nifti(volume, path)
    else:
        _write_with_itk(volume, path, row)


def _write_with_itk(volume: Volume, path: Path, row: ImageFormat) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetFileName(os.fspath(path))
    if row.name != "TIFF":
        writer.SetUseCompression(True)
        writer.SetCompressionLevel(COMPRESSION.get(row.name, 1))
    with quiet():
        writer.Execute(image_of(volume))


def _to_disk(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.got if isinstance(error, VolumeError) else reason(error)  # type: ignore[arg-type]
