"""The size of an image by its header alone, to refuse one before memory is taken for its voxels."""

from __future__ import annotations

import gzip
import math
import mmap
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resvox.errors import VolumeError
from resvox.volumes.formats import format_of, paired_files
from resvox.volumes.metaimage import read_header
from resvox.volumes.nrrd.header import LONGEST_HEADER
from resvox.volumes.nrrd.header import read_header as read_nrrd_header

DEFLATE_RATIO = 1032  # the most that zlib's format can compress
MOST_INFLATED = 1 << 30  # bytes of one DICOM file
DETACHED = "a header whose voxels are in another file"


def count_voxels(path: Path) -> int:
    """The voxels that an image holds by its header, channels counted; of a folder, of all its DICOM files.

    Raises:
        VolumeError: a header that cannot be read, or one that names another file for its voxels.
    """
    if path.is_dir():
        return sum(_counted(_dicom, each) for each in sorted(path.rglob("*")) if each.is_file())
    row = format_of(path)
    return _counted(READERS[row.name] if row is not None else _dicom, path)


def _counted(reader: Callable[[Path], int], path: Path) -> int:
    try:
        return reader(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise VolumeError(f"a header that cannot be read ({error})", expected="a whole image file", path=path) from None


def _nifti(path: Path) -> int:
    from resvox.volumes.nifti_header import parse_header

    pair = paired_files(path)
    if pair is not None:
        path = pair[0]
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        head = file.read(540)
    return parse_header(head, path, pair=pair is not None).voxels


def _nrrd(path: Path) -> int:
    with open(path, "rb") as file:
        header = read_nrrd_header(file.read(LONGEST_HEADER), path)
    if header.files is not None:
        raise VolumeError(DETACHED, expected="one file with header and voxels", fix="save it as .nrrd", path=path)
    return header.voxels


def _metaimage(path: Path) -> int:
    header = read_header(path)
    if not header.is_local:
        raise VolumeError(DETACHED, expected="one file with header and voxels", fix="save it as .mha", path=path)
    return math.prod(header.sizes) * header.components


def _picture(path: Path) -> int:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, for sizes that the caller's limit decides on
        try:
            with Image.open(path) as image:
                return math.prod(image.size) * len(image.getbands())
        except Image.DecompressionBombError:
            raise VolumeError("more than 178 million pixels", expected="a picture of fewer", path=path) from None


def _tiff(path: Path) -> int:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return sum(math.prod(page.shape) for page in file.pages if page is not None)
    except tifffile.TiffFileError as error:  # a ValueError in newer versions only
        raise VolumeError(f"a TIFF header that cannot be read ({error})", path=path) from None


def _dicom(path: Path) -> int:
    import pydicom

    from resvox.volumes.dicom.marks import is_dicom, not_a_scan

    with open(path, "rb") as file:
        has_preamble = file.read(132)[128:] == b"DICM"
    if has_preamble and not_a_scan(path) is not None:
        return 0  # known by its first bytes, as where a series is read: it is not inflated
    _check_deflated(path)
    tags = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not is_dicom(path) or not_a_scan(path) is not None:
                return 0  # another file of the folder; reading the series decides
            head: Any = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True, force=True)
            sizes = [max(1, int(head.get(name) or 1)) for name in tags]
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise VolumeError(f"a DICOM header that cannot be read ({error})", path=path) from None
    return math.prod(sizes)


def _check_deflated(path: Path) -> None:
    """Refuse a compressed data set that may not fit into memory: pydicom inflates all of it for any attribute."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    size = path.stat().st_size
    if size * DEFLATE_RATIO > MOST_INFLATED and _names(path, DeflatedExplicitVRLittleEndian.encode()):
        raise VolumeError(
            f"a deflated data set of {size / 1e6:.1f} MB, which may inflate to {size * DEFLATE_RATIO / 1e9:.1f} GB",
            expected=f"at most {MOST_INFLATED / DEFLATE_RATIO / 1e6:.1f} MB",
            fix="save it in Explicit VR Little Endian",
            path=path,
        )


def _names(path: Path, words: bytes) -> bool:
    """Whether a file holds these bytes anywhere: where pydicom looks for them depends on its guesses."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(words) >= 0


# by name of the format
READERS: dict[str, Callable[[Path], int]] = {
    "NIfTI": _nifti,
    "NRRD": _nrrd,
    "MetaImage": _metaimage,
    "TIFF": _tiff,
    "PNG": _picture,
    "JPEG": _picture,
    "BMP": _picture,
    "DICOM": _dicom,
}
