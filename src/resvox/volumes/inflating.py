"""Decompression of deflated data into the caller's memory, with all checksums verified."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 18
EITHER = 47  # zlib's code for "a gzip or a zlib header and trailer", whose checksum it then compares


class InflatedStream(io.RawIOBase):
    """The decompressed bytes of a gzip or zlib stream of one or several members; zeros behind the last one are allowed.

    The module `gzip` does the same through three layers of buffers, in twice the time.

    Args:
        path: the file.
        offset: where the first member begins in it.

    Raises:
        EOFError: the file ends before its last member does.
        zlib.error: damaged data, or something else behind the last member.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        super().__init__()
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by close()
        self._file.seek(offset)
        self._pending = b""
        self._member: Any = None

    def readable(self) -> bool:
        """Always true: the stream is open for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Up to ``len(buffer)`` decompressed bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._member is None and not self._next_member():
                return 0
            if not self._pending:
                self._pending = self._file.read(READ_BYTES)
                if not self._pending:
                    raise EOFError("it ends before its end-of-stream marker")
            data = self._member.decompress(self._pending, len(view))
            if self._member.eof:
                self._pending = self._member.unused_data
                self._member = None
            else:
                self._pending = self._member.unconsumed_tail
            if data:
                view[: len(data)] = data
                return len(data)
        return 0

    def _next_member(self) -> bool:
        while not self._pending.strip(b"\0"):
            self._pending = self._file.read(READ_BYTES)
            if not self._pending:
                return False
        self._pending = self._pending.lstrip(b"\0")
        self._member = zlib.decompressobj(EITHER)
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
