"""Scans in and out: SimpleITK inside, numpy outside.

Arrays are (D, H, W) = (z, y, x); the world is millimetres in LPS as in DICOM and ITK. See
docs/axes-and-units.md.
"""

from resvox.volumes.cases import InputCase, find_cases, read_case
from resvox.volumes.dicom import Series, list_series
from resvox.volumes.grid import Grid
from resvox.volumes.reading import read_label_map, read_volume
from resvox.volumes.resampling import resample
from resvox.volumes.volume import Volume
from resvox.volumes.writing import write_label_map, write_volume

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
