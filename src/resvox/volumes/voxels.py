"""Reading voxels into one array: converted, scaled and checked in a single pass, in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.inflating import InflatedStream

CHUNK_BYTES = 1 << 18  # a multiple of every voxel's size; small, so that conversions stay in the processor's cache
MOST_INFLATION = 1032  # the largest ratio of deflate
SLACK_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The storage of numbers in a file.

    Args:
        type: of the stored numbers, with its byte order.
        count: how many there are.
        offset: bytes before the first one.
        scale: (slope, intercept) of the real values, which are float32 then; None to keep integers.
    """

    type: np.dtype[Any]
    count: int
    offset: int = 0
    scale: tuple[float, float] | None = None

    @property
    def end(self) -> int:
        """Bytes up to the last number."""
        return self.offset + self.count * self.type.itemsize

    @property
    def result(self) -> np.dtype[Any]:
        """The type in memory: integers as stored, other numbers float32."""
        is_float = self.type.kind == "f" or self.scale is not None
        return np.dtype(np.float32) if is_float else self.type.newbyteorder("=")


def read_voxels(
    stream: RawIOBase, stored: Stored, path: Path, *, file_bytes: int, to_end: bool = False
) -> npt.NDArray[Any]:
    """The numbers of a file as a flat array.

    Args:
        stream: at the beginning of the file, or of its decompressed content.
        stored: what to read.
        path: named in errors.
        file_bytes: the size of the file, which limits how many numbers it can hold.
        to_end: read on to the end of the stream, where compressed data have their checksum.

    Raises:
        VolumeError: fewer bytes than there must be; NaN or infinite numbers.
    """
    most = MOST_INFLATION if isinstance(stream, InflatedStream) else 1
    if stored.end > file_bytes * most + SLACK_BYTES:
        raise truncated_error(path, drain(stream), stored.end)  # before memory is allocated
    found = drain(stream, stored.offset)
    array = np.empty(stored.count, stored.result)
    got, not_finite = _fill_array(stream, stored, array)
    if found + got < stored.end:
        raise truncated_error(path, found + got, stored.end)
    if to_end:
        drain(stream)
    if not_finite:
        raise not_finite_error(not_finite, array.size)
    return array


def fill(stream: RawIOBase, view: memoryview) -> int:
    """Fill `view` as far as the stream goes; how many bytes."""
    done = 0
    while done < len(view) and (got := stream.readinto(view[done:])):
        done += got
    return done


def drain(stream: RawIOBase, most: int | None = None) -> int:
    """Read and forget `most` bytes, or all that is left; how many there were."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    total = 0
    while (most is None or total < most) and (
        got := fill(stream, buffer if most is None else buffer[: min(CHUNK_BYTES, most - total)])
    ):
        total += got
    return total


def _fill_array(stream: RawIOBase, stored: Stored, array: npt.NDArray[Any]) -> tuple[int, int]:
    """Bytes read, and how many numbers are not finite."""
    is_direct = stored.type == array.dtype and stored.scale is None
    step = CHUNK_BYTES // stored.type.itemsize
    buffer = np.empty(0 if is_direct else step, stored.type)
    found = not_finite = 0
    for start in range(0, array.size, step):
        part = array[start : start + step]
        target = part if is_direct else buffer[: part.size]
        got = fill(stream, memoryview(target.view(np.uint8).data))
        found += got
        if got < target.nbytes:
            break
        if not is_direct:
            _convert(target, part, stored.scale)
        if part.dtype.kind == "f":
            not_finite += part.size - int(np.count_nonzero(np.isfinite(part)))
    return found, not_finite


def _convert(numbers: npt.NDArray[Any], part: npt.NDArray[Any], scale: tuple[float, float] | None) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if scale is not None:
            np.add(numbers * np.float64(scale[0]), scale[1], out=part, casting="unsafe")
        else:
            part[...] = numbers


def truncated_error(path: Path, found: int, needed: int) -> VolumeError:
    """Fewer bytes than the header promises."""
    return VolumeError(
        f"truncated: {found} bytes",
        expected=f"{needed} bytes, as its header promises",
        fix="copy or download it again",
        path=path,
    )


def not_finite_error(count: int, voxels: int) -> VolumeError:
    """The error for numbers that are NaN or infinite."""
    return VolumeError(
        f"{'all' if count >= voxels else count} of {voxels} voxels are NaN or infinite",
        expected="finite numbers",
        fix="decide what they mean and replace them, e.g. by the value of air",
    )
