"""TIFF: pictures and stacks, read and written with tifffile, and the file with a stack's spacing beside it.

tifffile is imported with the first name that needs it, which the file with the spacing is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names
from resvox.volumes.tiff.spacing_file import (
    files_beside,
    spacing_beside,
    spacing_file_of,
    with_spacing_beside,
    write_spacing_file,
)

if TYPE_CHECKING:
    from resvox.volumes.tiff.reading import is_stack, read_tiff
    from resvox.volumes.tiff.writing import write_tiff

__all__ = [
    "files_beside",
    "is_stack",
    "read_tiff",
    "spacing_beside",
    "spacing_file_of",
    "with_spacing_beside",
    "write_spacing_file",
    "write_tiff",
]

__getattr__, __dir__ = lazy_names(__name__, {".reading": ("is_stack", "read_tiff"), ".writing": ("write_tiff",)})
