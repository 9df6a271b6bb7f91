"""Any ``.safetensors`` file as arrays, its header checked before a byte of tensors is read."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError
from resvox.weights.formats.safetensors import raw_header

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read_flat(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file, by name; bfloat16 becomes float32, which holds all its values.

    Raises:
        WeightsError: not a safetensors file, a broken one, or one whose header does not match its contents.
    """
    source = Path(path)
    header = raw_header(source)
    header.pop("__metadata__", None)
    places = {name: _place(name, entry, source) for name, entry in header.items()}
    try:
        with open(source, "rb") as file:
            begin = 8 + int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size - begin
            _check_cover(places, size, source)
            body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise WeightsError(f"could not be read ({error})", expected="a safetensors file", path=source) from error
    return {name: _array(body, begin, *place) for name, place in places.items()}


def _place(name: str, entry: Any, source: Path) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, begin and end of a tensor, consistent with one another."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        good = dtype in DTYPES and all(type(n) is int and n >= 0 for n in (*shape, start, stop)) and len(shape) <= 16
        good = good and stop - start == math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    except (TypeError, KeyError, ValueError):
        good = False
    if not good:
        raise WeightsError(
            f"an inconsistent header for {name[:80]!r}: {str(entry)[:120]}",
            expected="dtype, shape and as many bytes as they need",
            path=source,
        )
    return dtype, shape, start, stop


def _check_cover(places: dict[str, tuple[str, tuple[int, ...], int, int]], size: int, source: Path) -> None:
    """Tensors lie one after another and end with the file."""
    end = 0
    for name, (_, _, start, stop) in sorted(places.items(), key=lambda each: (each[1][2], each[1][3])):
        if start != end or stop > size:
            raise WeightsError(
                f"an inconsistent header for {name[:80]!r}: bytes {start} to {stop} of {size}",
                expected=f"a tensor that begins at {end} and ends with the file",
                fix="fetch it again",
                path=source,
            )
        end = stop
    if end != size:
        raise WeightsError(f"{size - end} bytes of no tensor", expected="a safetensors file", path=source)


def _array(body: mmap.mmap, begin: int, dtype: str, shape: tuple[int, ...], start: int, stop: int) -> npt.NDArray[Any]:
    # copied, because offsets need not suit the type
    flat = np.frombuffer(body[begin + start : begin + stop], dtype=DTYPES[dtype])
    if dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)
