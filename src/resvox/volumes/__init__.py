"""Scans in and out: SimpleITK inside, numpy outside.

Arrays are (D, H, W) = (z, y, x); the world is millimetres in LPS as in DICOM and ITK. See
docs/axes-and-units.md.

The libraries of single formats (SimpleITK, pydicom, tifffile, Pillow) are imported when one is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.volumes.cases import InputCase, find_cases, read_case
from resvox.volumes.grid import Grid
from resvox.volumes.reading import read_label_map, read_volume
from resvox.volumes.resampling import resample
from resvox.volumes.volume import Volume
from resvox.volumes.writing import write_label_map, write_volume

if TYPE_CHECKING:
    from resvox.volumes.dicom import Series, list_series

__all__ = [
    "Grid",
    "InputCase",
    "Series",
    "Volume",
    "find_cases",
    "list_series",
    "read_case",
    "read_label_map",
    "read_volume",
    "resample",
    "write_label_map",
    "write_volume",
]


def __getattr__(name: str) -> object:
    if name not in ("Series", "list_series"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resvox.volumes import dicom

    return getattr(dicom, name)
