"""Gzip streams that are written: by ISA-L where it is installed, otherwise by zlib; readable by every gzip."""

from __future__ import annotations

import gzip
from typing import IO

ISAL_LEVEL = 1  # of 0 to 3: as small as 2, and both are smaller than 0 and 3 for label maps (measured)
ZLIB_LEVEL = 1  # nearly as small for label maps as 9


def deflating(stored: IO[bytes]) -> gzip.GzipFile:
    """A stream whose bytes are compressed into ``stored``; closing it leaves ``stored`` open.

    The same bytes are compressed into the same file: it holds neither a name nor a time.
    """
    writer = _isal()
    if writer is None:
        return gzip.GzipFile(filename="", mode="wb", compresslevel=ZLIB_LEVEL, fileobj=stored, mtime=0)
    return writer(filename="", mode="wb", compresslevel=ISAL_LEVEL, fileobj=stored, mtime=0)


def _isal() -> type[gzip.GzipFile] | None:
    """ISA-L's writer; None on platforms for which it has no package."""
    try:
        from isal.igzip import IGzipFile
    except ImportError:
        return None
    writer: type[gzip.GzipFile] = IGzipFile
    return writer
