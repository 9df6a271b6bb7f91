"""Zip archives from unknown sources: sizes are checked before memory is allocated. And ``.npz`` files."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError

# weights hardly compress: a member that grows more than this, and to more than that, is a bomb
MAX_GROWTH = 100
FREE_BYTES = 64 * 2**20


def open_zip(file: BinaryIO, source: Path) -> zipfile.ZipFile:
    """The archive in an open file.

    Raises:
        WeightsError: not an archive, or a broken one.
    """
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise WeightsError(f"a broken archive ({str(error)[:100]!r})", expected="a whole file", path=source) from error


def check_members(archive: zipfile.ZipFile, file_bytes: int, source: Path) -> None:
    """Refuse an archive whose members would be far larger than the file they come from.

    Raises:
        WeightsError: a member, or all of them together (they may overlap), grow more than a hundredfold.
    """
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    claims = [(info.filename, info.file_size, info.compress_size) for info in infos]
    for name, size, stored in [*claims, ("the archive", total, file_bytes)]:
        # what is not compressed cannot be more than the file
        limit = max(FREE_BYTES, MAX_GROWTH * min(stored, file_bytes))
        if size > limit:
            raise WeightsError(
                f"a zip bomb: {name[:80]} claims {size} bytes in {stored}", expected="a file of weights", path=source
            )


def read_member(archive: zipfile.ZipFile, name: str, source: Path) -> bytes:
    """A member's bytes, its checksum tested.

    Raises:
        WeightsError: it is broken.
    """
    try:
        info = archive.getinfo(name)
        with archive.open(info) as member:
            data = member.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError,
            OSError, OverflowError) as error:  # fmt: skip
        raise WeightsError(
            f"a broken {name[:80]} ({str(error)[:100]!r})", expected="a whole file", path=source
        ) from error
    if len(data) != info.file_size:
        raise WeightsError(f"{name[:80]} of another size than claimed", expected="a whole file", path=source)
    return data


def read_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a ``.npz`` file; no objects.

    Raises:
        WeightsError: not one, broken, or with a claim that its bytes do not hold.
    """
    source = Path(path)
    try:
        with open(source, "rb") as file, open_zip(file, source) as archive:
            check_members(archive, os.fstat(file.fileno()).st_size, source)
            return {
                name.removesuffix(".npy"): _npy(read_member(archive, name, source), name, source)
                for name in archive.namelist()
            }
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be read ({reason})", expected="a .npz file", path=source) from error


def _npy(data: bytes, name: str, source: Path) -> npt.NDArray[Any]:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject or dtype.kind not in "fiub":
            raise ValueError(f"numbers of type {dtype}")
        if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError(f"{shape} claimed in {len(data)} bytes")
        stream.seek(0)
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, TypeError, EOFError, SyntaxError, KeyError, MemoryError, RecursionError) as error:
        raise WeightsError(f"a broken {name[:80]} ({str(error)[:100]})", expected="an array", path=source) from error
    return array
