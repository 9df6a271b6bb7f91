"""DICOM files and series as volumes: attributes read by pydicom, every frame with its own position and values.

pydicom, whose import takes longer than that of the rest of this package, is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from resvox.volumes.dicom.marks import is_dicom

if TYPE_CHECKING:
    from resvox.volumes.dicom.files import Series, list_series
    from resvox.volumes.dicom.reading import choose_series, read_dicom

__all__ = ["Series", "choose_series", "is_dicom", "list_series", "read_dicom"]
_MODULE_OF = {"Series": "files", "list_series": "files", "choose_series": "reading", "read_dicom": "reading"}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
