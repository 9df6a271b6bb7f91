"""Damaged files as other libraries read them. A reader raises where its library does not say what the values are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def nibabel_values(path: Path) -> Array:
    import nibabel

    image = nibabel.load(path)
    if image.dataobj.offset < 352:
        raise ValueError("nibabel would take the header for voxels")
    array = np.asarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array.transpose()


def itk_values(path: Path) -> Array:
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def metaimage_values(path: Path) -> Array:
    """ITK's, but not for damaged fields of compression, of which it makes unset memory or noise."""
    head, found, packed = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    size = f"\nCompressedDataSize = {len(packed)}\n".encode()
    if not found or size not in head or b"\nCompressedData = True\n" not in head:
        raise ValueError("a field that ITK would trust")
    return itk_values(path)


def tifffile_values(path: Path) -> Array:
    """Stored values; whatever makes them mean something else (a palette, a turned page, few bits) is left out."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        orientation = page.tags.get(274)
        if int(page.photometric) > 1 or page.samplesperpixel != 1 or page.bitspersample < 8:
            raise ValueError("values that have to be converted")
        if orientation is not None and orientation.value != 1:
            raise ValueError("rows and columns that have to be exchanged or reversed")
        return np.asarray(file.asarray()).squeeze()


def pillow_values(path: Path) -> Array:
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        if stored.mode not in ("L", "I;16"):
            raise ValueError("values that have to be converted")
        return np.asarray(ImageOps.exif_transpose(stored))


def pydicom_values(path: Path) -> Array:
    """The slices of the folder that have the series and the direction of the first one, along their normal."""
    import pydicom
    from pydicom.pixels import apply_modality_lut

    slices = [pydicom.dcmread(each) for each in sorted(path.parent.iterdir())]
    if len({(ds.SeriesInstanceUID, str(ds.ImageOrientationPatient)) for ds in slices}) > 1:
        raise ValueError("several series")
    if any("RescaleSlope" not in ds or "RescaleIntercept" not in ds for ds in slices):
        raise ValueError("half of a pair, of which pydicom uses neither")
    if any(ds.HighBit != ds.BitsStored - 1 for ds in slices):
        raise ValueError("bits of which pydicom takes the low ones")
    if any(ds.PhotometricInterpretation != "MONOCHROME2" for ds in slices):
        raise ValueError("values that have to be converted")
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    slices.sort(key=lambda ds: float(np.cross(row, column) @ np.array(ds.ImagePositionPatient, float)))
    return np.stack([apply_modality_lut(ds.pixel_array, ds) for ds in slices])[np.newaxis, np.newaxis]
