"""DICOM files and series as volumes: attributes read by pydicom, every frame with its own position and values.

pydicom, whose import takes longer than that of the rest of this package, is imported with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names
from resvox.volumes.dicom.marks import is_dicom

if TYPE_CHECKING:
    from resvox.volumes.dicom.files import Series, list_series
    from resvox.volumes.dicom.reading import choose_series, read_dicom

__all__ = ["Series", "choose_series", "is_dicom", "list_series", "read_dicom"]

__getattr__, __dir__ = lazy_names(
    __name__, {".files": ("Series", "list_series"), ".reading": ("choose_series", "read_dicom")}
)
