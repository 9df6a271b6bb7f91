"""Atomic writing of volumes. The library of a format is imported when a file of that format is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from resvox.errors import VolumeError
from resvox.files import replacing
from resvox.volumes.formats import FORMATS, WRITTEN_ENDINGS, ImageFormat, ending_of, format_of
from resvox.volumes.grid import Grid
from resvox.volumes.volume import Volume

Writer = Callable[[Volume, Path], None]
ZLIB_LEVEL = 1  # nearly as small for label maps as 9


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a volume atomically: at any moment `path` is the old file or the whole new one.

    The parent folder is created. The format follows the ending: .nii.gz, .nii, .nrrd, .mha; .tif for images and stacks,
    .png for images. These two hold the spacing, but no origin and direction.

    Returns:
        The path written.

    Raises:
        VolumeError: an ending that is not one of these; numbers, sizes or a position that the format cannot hold; a
            folder or disk that does not take it.
    """
    return _write_atomically(volume, Path(path), WRITERS)


def _write_atomically(volume: Volume, path: Path, writers: Mapping[str, Writer]) -> Path:
    ending = _ending(path)
    row = format_of(path)
    assert row is not None  # checked by _ending
    _check_format(volume, row, ending, path)
    try:
        with replacing(path) as temporary:
            writers.get(row.name, _write_with_itk)(volume, temporary)
    except (OSError, RuntimeError, VolumeError) as error:
        raise VolumeError(
            f"could not be written ({_why(error)})",
            expected="a folder that can be written to and free space on its disk",
            fix="free some space, or choose another place",
            path=path,
        ) from None
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
    smallest = volume.with_array(labels.astype(np.min_scalar_type(int(labels.max()))))
    return _write_atomically(smallest, Path(path), LABEL_WRITERS)


def _ending(path: Path) -> str:
    ending = ending_of(path)
    if ending in WRITTEN_ENDINGS:
        return ending
    raise VolumeError(
        f"cannot write a file named {path.name!r}",
        expected=f"a name ending in {', '.join(WRITTEN_ENDINGS)}",
        path=path,
    )


def _check_format(volume: Volume, row: ImageFormat, ending: str, path: Path) -> None:
    """Reject what the format cannot store; the error names a format that can."""
    dims, kind = volume.spatial_dims, volume.array.dtype
    longest, channels = max(volume.grid.shape), volume.channels
    problem = expected = fix = ""
    if dims == 3 and not row.holds_3d:
        problem, expected = f"3-D image of type {kind}", f"a 2-D image of uint8 or uint16 for {ending}"
    elif row.types is not None and kind.name not in row.types:
        problem, expected = f"{dims}-D image of type {kind}", f"{', '.join(row.types)} for {ending}"
    elif row.largest_axis is not None and longest > row.largest_axis:
        problem, expected = f"an axis of {longest} voxels", f"at most {row.largest_axis} in {row.name}"
    elif row.most_channels is not None and channels > row.most_channels:
        problem, expected = f"{channels} channels", f"at most {row.most_channels} in {row.name}"
    elif not row.holds_position and not _is_default_position(volume):
        problem, expected = "an image with an origin or a direction", f"none, for {row.name} holds the spacing alone"
        fix = f"write {_other_endings(volume)}, or leave its position out: Volume(array, spacing_mm=spacing_mm)"
    if problem:
        raise VolumeError(problem, expected=expected, fix=fix or f"write {_other_endings(volume)}", path=path)


def _is_default_position(volume: Volume) -> bool:
    return volume.grid.matches(Grid(volume.grid.shape, spacing_mm=volume.spacing_mm), tolerance=1e-3)


def _other_endings(volume: Volume) -> str:
    """The formats that hold any volume of these sizes."""
    longest = max(volume.grid.shape)
    able = (row for row in FORMATS if row.written and row.holds_position and longest <= (row.largest_axis or longest))
    return " or ".join(row.written[0] for row in able)


def _write_with_itk(volume: Volume, path: Path) -> None:
    from resvox.volumes.itk import image_of, sitk

    writer = sitk.ImageFileWriter()
    writer.SetFileName(os.fspath(path))
    writer.SetUseCompression(True)
    writer.SetCompressionLevel(ZLIB_LEVEL)
    writer.Execute(image_of(volume))


def _write_nifti(volume: Volume, path: Path, *, is_label_map: bool = False) -> None:
    from resvox.volumes.nifti import write_nifti

    write_nifti(volume, path, is_label_map=is_label_map)


def _write_png(volume: Volume, path: Path) -> None:
    from resvox.volumes.pictures import write_png

    write_png(volume, path)


def _write_tiff(volume: Volume, path: Path) -> None:
    from resvox.volumes.tiff import write_tiff

    write_tiff(volume, path)


# By name of the format; the others are written by ITK.
WRITERS: dict[str, Writer] = {"NIfTI": _write_nifti, "PNG": _write_png, "TIFF": _write_tiff}
LABEL_WRITERS: dict[str, Writer] = {**WRITERS, "NIfTI": partial(_write_nifti, is_label_map=True)}


def _why(error: Exception) -> str:
    from resvox.volumes.itk import reason

    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.got if isinstance(error, VolumeError) else reason(error)  # type: ignore[arg-type]
