"""Reading of an image file or a DICOM folder as a `Volume`. The library of a format is imported when it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resvox.errors import VolumeError
from resvox.volumes.dicom.marks import is_dicom
from resvox.volumes.formats import DICOM_ENDINGS, READ_ENDINGS, ending_of, format_of, is_picture, stem_of
from resvox.volumes.volume import Volume
from resvox.volumes.voxels import not_finite_error

POINTERS = (b"version https://git-lfs", b"/annex/objects/", b"../.git/annex/", b".git/annex/")


def read_volume(
    path: str | os.PathLike[str], *, series: str | int | None = None, channels: int | None = None
) -> Volume:
    """Read an image: NIfTI, NRRD, MetaImage, a DICOM file or the folder of a series, PNG, TIFF, JPEG, BMP.

    Integers keep the type they are stored in (label maps stay exact); other numbers come as float32.
    Stored rescale slopes and intercepts are applied. Colour or vector pixels become channels: (channels,
    *spatial).

    Args:
        path: the file, or a folder with one DICOM series (searched with its sub-folders).
        series: which series of the folder: its UID, or its series number; `list_series` shows them.
        channels: how many channels there must be. A 4-D file is read as channels only if this is their number.

    Raises:
        VolumeError: one line naming the file and the reason: missing, empty, damaged, truncated, a DICOM
            series with a missing slice, several series and none chosen, sheared axes, 4-D, NaN or
            infinite numbers , other channels.
    """
    return _named(Path(path), series, channels, as_labels=False)


def read_label_map(path: str | os.PathLike[str]) -> Volume:
    """Read an image whose numbers are labels, not intensities.

    As `read_volume`, but of pictures the stored numbers are taken: the indices of a palette instead of its colours,
    0 and 1 of one bit per pixel instead of 0 and 255, one channel where red, green and blue are equal.

    Raises:
        VolumeError: as `read_volume`.
    """
    return _named(Path(path), None, None, as_labels=True)


def _named(path: Path, series: str | int | None, channels: int | None, *, as_labels: bool) -> Volume:
    """Read; every error names the path."""
    try:
        return _read(path, series, channels, as_labels)
    except OSError as error:
        raise VolumeError(f"cannot be opened ({error.strerror})", expected="a file to read", path=path) from None
    except VolumeError as error:
        if error.path is not None:
            raise
        raise VolumeError(error.got, expected=error.expected, fix=error.fix, path=path) from None


def _read(path: Path, series: str | int | None, channels: int | None, as_labels: bool) -> Volume:
    ending = check_file(path)
    if path.is_dir() or ending in DICOM_ENDINGS:
        from resvox.volumes.dicom import read_dicom

        volume = _with_settled_type(read_dicom(path, series=series))
    else:
        row = format_of(path)
        assert row is not None
        volume = READERS[row.name](path, channels, as_labels)
    if channels is not None and volume.channels != channels:
        raise VolumeError(
            f"{volume.channels} channel{'s' if volume.channels > 1 else ''}",
            expected=f"{channels}",
            fix=_channels_fix(path, volume.channels, channels),
            path=path,
        )
    return volume


def _channels_fix(path: Path, found: int, wanted: int) -> str:
    """The fix for another number of channels; for a single channel file, the missing ones beside it."""
    stem, ending = stem_of(path), path.name[len(stem_of(path)) :]
    if found == 1 and wanted > 1 and stem.endswith("_0000"):
        missing = [f"{stem[:-4]}{number:04d}{ending}" for number in range(1, wanted)]
        return f"put {' and '.join(missing[:3])}{' and so on' if wanted > 4 else ''} beside it"
    return "give one file per channel (case_0000, case_0001, ...) or an image with that many"


def check_file(path: Path) -> str:
    """The ending that determines how `path` is read ("" for a folder, ".dcm" for DICOM files of any name).

    Raises:
        VolumeError: the path does not exist, the file is empty, or it has no known format.
    """
    if path.is_dir():
        return ""
    if path.is_symlink() and not path.exists():
        raise broken_link_error(path)
    if not path.exists():
        raise VolumeError("no such file or folder", expected="an image", path=path)
    if path.stat().st_size == 0:
        raise VolumeError("the file is empty (0 bytes)", expected="an image", path=path)
    if path.stat().st_size < 2000:
        _refuse_pointer(path)
    ending = ending_of(path)
    if ending:
        return ending
    if is_dicom(path):
        return ".dcm"
    raise VolumeError(
        "not an image that can be read",
        expected=f"{', '.join(READ_ENDINGS)}, DICOM",
        fix="convert it, or name it by its format",
        path=path,
    )


def is_flat_picture(path: Path) -> bool:
    """Whether a file is a 2-D picture, whose results may be pictures: PNG, JPEG, BMP, a TIFF that is not a stack."""
    row = format_of(path)
    if not is_picture(path) or row is None or not row.holds_3d:
        return is_picture(path)
    from resvox.volumes.tiff import is_stack

    return not is_stack(path)


def broken_link_error(path: Path) -> VolumeError:
    """The error of a link to a file that does not exist."""
    return VolumeError(
        f"a link to {os.readlink(path)}, which does not exist",
        expected="a link to an image",
        fix="fetch its content (git annex get, datalad get), or correct the link",
        path=path,
    )


def _refuse_pointer(path: Path) -> None:
    """Whether this is a pointer of git-lfs or git-annex to a large file that was not fetched."""
    with open(path, "rb") as stream:
        if stream.read(200).startswith(POINTERS):
            raise VolumeError(
                "a pointer of Git LFS or git-annex, not the image itself",
                expected="an image",
                fix="fetch its content (git lfs pull, git annex get)",
                path=path,
            )


def _read_nifti(path: Path, channels: int | None, as_labels: bool) -> Volume:
    from resvox.volumes.nifti import read_nifti

    return read_nifti(path, channels)


def _read_metaimage(path: Path, channels: int | None, as_labels: bool) -> Volume:
    from resvox.volumes.metaimage import read_metaimage

    return read_metaimage(path, channels)


def _read_tiff(path: Path, channels: int | None, as_labels: bool) -> Volume:
    from resvox.volumes.tiff import read_tiff

    return read_tiff(path, channels, as_labels=as_labels)


def _read_picture(path: Path, channels: int | None, as_labels: bool) -> Volume:
    from resvox.volumes.pictures import read_picture

    return read_picture(path, channels, as_labels=as_labels)


def _read_nrrd(path: Path, channels: int | None, as_labels: bool) -> Volume:
    from resvox.volumes.itk import read_image, volume_of

    image = read_image(path, image_io="NrrdImageIO")
    return _with_settled_type(volume_of(image) if image.GetDimension() <= 3 else _stacked(image, path, channels))


def _stacked(image: Any, path: Path, channels: int | None) -> Volume:
    size = image.GetSize()
    extra = int(np.prod(size[3:]))
    vector = image.GetNumberOfComponentsPerPixel() > 1
    if vector or (extra > 1 and extra != channels):
        raise VolumeError(
            f"{len(size)}-D image of {'x'.join(map(str, size))} voxels (time or channels)",
            expected="a 3-D or 2-D image" + (f", or {channels} channels" if channels else ""),
            fix="split it into one file per channel: case_0000.nii.gz, case_0001.nii.gz, ...",
            path=path,
        )
    from resvox.volumes.itk import geometry_of, sitk

    array = sitk.GetArrayFromImage(image)
    spatial = array.shape[-3:]
    array = array.reshape(spatial if extra == 1 else (extra, *spatial))
    return Volume(array, **geometry_of(image, 3))


def _with_settled_type(volume: Volume) -> Volume:
    if volume.array.dtype.kind != "f":
        return volume
    with np.errstate(over="ignore"):
        array = volume.array.astype(np.float32, copy=False)
    not_finite = array.size - int(np.count_nonzero(np.isfinite(array)))
    if not_finite:
        raise not_finite_error(not_finite, array.size)
    return volume.with_array(array)


# by name of the format
READERS: dict[str, Callable[[Path, int | None, bool], Volume]] = {
    "NIfTI": _read_nifti,
    "NRRD": _read_nrrd,
    "MetaImage": _read_metaimage,
    "TIFF": _read_tiff,
    **dict.fromkeys(("PNG", "JPEG", "BMP"), _read_picture),
}
