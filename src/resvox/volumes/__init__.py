"""Scans in and out: SimpleITK inside, numpy outside.

Arrays are (D, H, W) = (z, y, x); the world is millimetres in LPS as in DICOM and ITK. See
docs/axes-and-units.md.

The libraries of single formats (SimpleITK, pydicom, tifffile, Pillow) are imported when one is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names
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

__getattr__, __dir__ = lazy_names(__name__, {".dicom": ("Series", "list_series")})
