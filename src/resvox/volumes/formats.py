"""The image formats that can be read or written: one row per format.

Every module that interprets file names (images in a folder, names of cases, names of outputs) uses this table.
Endings are compared without regard to case: ``SCAN.NII.GZ`` is NIfTI.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

INT16_MAX = 32_767  # NIfTI-1 stores each size in a signed 16-bit field


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """What a file format can hold, and the endings by which its files are known.

    Args:
        name: as written in messages.
        endings: endings that are read, in lower case, the longest first where one ends with another.
        written: those of them that `write_volume` writes, as a single file each.
        data_endings: endings of voxel files that belong to a header file of the same name (``.hdr`` and ``.img``).
        detached: endings of headers that name other files for their voxels.
        is_picture: pixels of a camera, a screen or a microscope; no position in the patient.
        holds_3d: whether a volume can be stored.
        holds_position: whether origin and direction are stored; if not, only the spacing is.
        is_lossy: compression changes values, so a label map cannot be stored.
        has_own_names: files may have any name, as DICOM files often do; the content defines their kind.
        largest_axis: the most voxels along one axis; None for no limit that matters.
        most_channels: the most channels; None for no limit that matters.
        types: names of the NumPy types that can be written; None for all real numbers.
    """

    name: str
    endings: tuple[str, ...]
    written: tuple[str, ...] = ()
    data_endings: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    is_picture: bool = False
    holds_3d: bool = True
    holds_position: bool = True
    is_lossy: bool = False
    has_own_names: bool = False
    largest_axis: int | None = None
    most_channels: int | None = None
    types: tuple[str, ...] | None = None


FORMATS = (
    ImageFormat(
        name="NIfTI",
        endings=(".nii.gz", ".nii", ".hdr.gz", ".hdr"),
        written=(".nii.gz", ".nii"),
        data_endings=(".img.gz", ".img"),
        largest_axis=INT16_MAX,
    ),
    ImageFormat(name="NRRD", endings=(".nrrd", ".nhdr"), written=(".nrrd",), detached=(".nhdr",)),
    ImageFormat(name="MetaImage", endings=(".mha", ".mhd"), written=(".mha",), detached=(".mhd",)),
    ImageFormat(
        name="PNG",
        endings=(".png",),
        written=(".png",),
        is_picture=True,
        holds_3d=False,
        holds_position=False,
        largest_axis=1_000_000,  # of libpng, as it is built
        most_channels=4,
        types=("bool", "uint8", "uint16"),
    ),
    ImageFormat(
        name="TIFF",
        endings=(".tif", ".tiff"),
        written=(".tif", ".tiff"),
        is_picture=True,
        holds_position=False,
        types=("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32"),
    ),
    ImageFormat(
        name="JPEG", endings=(".jpg", ".jpeg"), is_picture=True, holds_3d=False, holds_position=False, is_lossy=True
    ),
    ImageFormat(name="BMP", endings=(".bmp",), is_picture=True, holds_3d=False, holds_position=False),
    ImageFormat(name="DICOM", endings=(".dcm", ".dicom", ".ima"), has_own_names=True),
)

READ_ENDINGS = tuple(ending for row in FORMATS if not row.has_own_names for ending in row.endings)
WRITTEN_ENDINGS = tuple(ending for row in FORMATS for ending in row.written)
DETACHED_ENDINGS = tuple(ending for row in FORMATS for ending in row.detached)
DICOM_ENDINGS = tuple(ending for row in FORMATS if row.has_own_names for ending in row.endings)
_ROWS = {ending: row for row in FORMATS for ending in (*row.endings, *row.data_endings)}
_LONGEST_FIRST = tuple(sorted(_ROWS, key=len, reverse=True))


def ending_of(path: str | os.PathLike[str]) -> str:
    """The known ending of a file's name in lower case, or "". A name that is all ending has none."""
    name = Path(path).name.lower()
    return next((ending for ending in _LONGEST_FIRST if name.endswith(ending) and len(name) > len(ending)), "")


def stem_of(path: str | os.PathLike[str]) -> str:
    """A file's name without its known ending: ``a.b.nii.gz`` -> ``a.b``; other names are returned whole."""
    name = Path(path).name
    return name[: len(name) - len(ending_of(name))]


def format_of(path: str | os.PathLike[str]) -> ImageFormat | None:
    """The format that a file's ending names, or None; the content is not looked at."""
    return _ROWS.get(ending_of(path))


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the ending is that of an image file that can be read alone or by its header file.

    False for DICOM, whose files may be called anything and come in series, and for the voxel file of a pair.
    """
    row = format_of(path)
    return row is not None and not row.has_own_names and ending_of(path) in row.endings


def is_label_map(path: str | os.PathLike[str]) -> bool:
    """Whether the ending is that of an image file that keeps every value: any image but JPEG."""
    row = format_of(path)
    return is_image(path) and row is not None and not row.is_lossy


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether the ending is that of a picture: PNG, TIFF, JPEG, BMP."""
    row = format_of(path)
    return row is not None and row.is_picture


def is_dicom_name(path: str | os.PathLike[str]) -> bool:
    """Whether the ending promises DICOM inside."""
    row = format_of(path)
    return row is not None and row.has_own_names


def paired_files(path: str | os.PathLike[str]) -> tuple[Path, Path] | None:
    """The header and the voxel file of a pair (``x.hdr``, ``x.img``) by the name of either.

    Upper and lower case may be mixed. The partner that does not exist is named as it should be called; None for
    a file that is not part of a pair.
    """
    path = Path(path)
    row, ending = format_of(path), ending_of(path)
    if row is None or not row.data_endings:
        return None
    if ending in row.data_endings:
        headers = tuple(each for each in row.endings if each not in row.written)
        return _sibling(path, headers, ending.endswith(".gz")), path
    return None if ending in row.written else (path, _sibling(path, row.data_endings, ending.endswith(".gz")))


def partner_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names that the other file of a pair (``x.hdr``, ``x.img``) may have; none for other files."""
    path = Path(path)
    row, ending = format_of(path), ending_of(path)
    if row is None or not row.data_endings or ending in row.written:
        return ()
    headers = tuple(each for each in row.endings if each not in row.written)
    wanted = _siblings(path, headers if ending in row.data_endings else row.data_endings, ending.endswith(".gz"))
    return tuple(each.name for each in wanted)


def _siblings(path: Path, endings: tuple[str, ...], compressed: bool) -> list[Path]:
    """Files beside `path` of its stem and one of `endings`; equal compression first."""
    stem = stem_of(path)
    ordered = sorted(endings, key=lambda ending: ending.endswith(".gz") != compressed)
    is_upper = path.name[len(stem) :].isupper()
    return [path.with_name(stem + (ending.upper() if is_upper else ending)) for ending in ordered]


def _sibling(path: Path, endings: tuple[str, ...], compressed: bool) -> Path:
    """The file beside `path` of its stem and one of `endings`; equal compression and equal stem first."""
    wanted = _siblings(path, endings, compressed)
    found = next((each for each in wanted if each.exists()), None)
    if found is None and path.parent.is_dir():
        names = {each.name.lower(): each for each in path.parent.iterdir()}
        found = next((names[each.name.lower()] for each in wanted if each.name.lower() in names), None)
    return found or wanted[0]
