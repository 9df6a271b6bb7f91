"""The size of an image by its header alone, to refuse one before memory is taken for its voxels."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resvox.errors import VolumeError
from resvox.volumes.formats import format_of, paired_files

LONGEST_TEXT_HEADER = 1 << 20  # bytes of an NRRD or MetaImage header
DETACHED = "a header whose voxels are in another file"


def count_voxels(path: Path) -> int:
    """The voxels that an image holds by its header, channels counted; of a folder, of all its DICOM files.

    Raises:
        VolumeError: a header that cannot be read, or one that names another file for its voxels.
    """
    if path.is_dir():
        return sum(_dicom(each) for each in sorted(path.rglob("*")) if each.is_file())
    row = format_of(path)
    reader = READERS[row.name] if row is not None else _dicom
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


def _fields(path: Path, separator: str, last: str) -> dict[str, str]:
    """The fields of a header of text lines, with their names in lower case and without blanks."""
    found: dict[str, str] = {}
    with open(path, "rb") as file:
        for line in file.read(LONGEST_TEXT_HEADER).split(b"\n"):
            text = line.decode("latin-1").strip()
            if not text and not last:
                break
            key, mark, value = text.partition(separator)
            name = key.strip().lower().replace(" ", "")
            if mark:
                found[name] = value.strip()
            if last and name == last:
                break
    return found


def _sizes(text: str, path: Path) -> int:
    try:
        sizes = [int(part) for part in text.split()]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise VolumeError(f"sizes {text[:60]!r} in the header", expected="whole numbers above 0", path=path)
    return math.prod(sizes)


def _nrrd(path: Path) -> int:
    fields = _fields(path, ":", "")
    if "datafile" in fields:
        raise VolumeError(DETACHED, expected="one file with header and voxels", fix="save it as .nrrd", path=path)
    return _sizes(fields.get("sizes", ""), path)


def _metaimage(path: Path) -> int:
    fields = _fields(path, "=", "elementdatafile")
    if fields.get("elementdatafile", "LOCAL") != "LOCAL":
        raise VolumeError(DETACHED, expected="one file with header and voxels", fix="save it as .mha", path=path)
    return _sizes(fields.get("dimsize", ""), path) * _sizes(fields.get("elementnumberofchannels", "1"), path)


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
    from pydicom.errors import InvalidDicomError

    tags = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head: Any = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True)
            sizes = [int(head.get(name) or 1) for name in tags]
    except InvalidDicomError:
        return 0  # another file of the folder; reading the series decides
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise VolumeError(f"a DICOM header that cannot be read ({error})", path=path) from None
    return math.prod(sizes)


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
