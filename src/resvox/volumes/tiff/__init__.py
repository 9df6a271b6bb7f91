"""TIFF: pictures and stacks, read and written with tifffile, and the file with a stack's spacing beside it."""

from resvox.volumes.tiff.reading import is_stack, read_tiff
from resvox.volumes.tiff.spacing_file import (
    files_beside,
    spacing_beside,
    spacing_file_of,
    with_spacing_beside,
    write_spacing_file,
)
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
