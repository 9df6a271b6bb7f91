"""PyTorch's ``.pth`` files as arrays, without PyTorch and without unpickling anything but names and numbers.

A pickle is a program. This one runs with every global replaced by a stub: what builds tensors becomes a
note of where they lie, what is known to be harmless becomes nothing, and any other name is refused before the
program reaches it. The numbers are then read from the file by their notes, each checked against what is there.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError
from resvox.weights.formats.archives import check_members, open_zip, read_member
from resvox.weights.formats.unpickling import MAX_PICKLE_BYTES, Storage, View, run_pickle

Array = npt.NDArray[Any]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PLAIN = 1_000_000  # values in what is kept as it is; a dataset.json that lists its files has some per case
MAX_DEPTH = 50


def read_pickled(path: str | os.PathLike[str], *, plain: Collection[str] = ()) -> Any:
    """The object in a file that ``torch.save`` wrote, its tensors as read-only arrays, other objects as nothing.

    bfloat16 becomes float32, which holds every one of its values.

    Args:
        path: the file.
        plain: keys of the outermost dictionary whose values are kept with all that is plain in them: text, numbers,
            None, lists, tuples and dictionaries. Without this, dictionaries are read two levels deep.

    Raises:
        WeightsError: no such file, a program that calls what it should not, a broken or truncated file, or one that
            claims more numbers than it holds.
    """
    source = Path(path)
    try:
        with open(source, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return (_read_zip if zipped else _read_legacy)(file, source, plain)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be read ({reason})", expected="a checkpoint", path=source) from error
    except WeightsError:
        raise
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, ValueError, TypeError, KeyError, IndexError,
        AttributeError, OverflowError, UnicodeDecodeError, RecursionError, NotImplementedError, MemoryError,
    ) as error:  # fmt: skip
        raise WeightsError(
            f"not a PyTorch file, or a broken one ({type(error).__name__}: {str(error)[:100]})",
            expected="a whole file that torch.save wrote",
            path=source,
        ) from error


def _read_zip(file: BinaryIO, source: Path, plain: Collection[str]) -> Any:
    with open_zip(file, source) as archive:
        check_members(archive, os.fstat(file.fileno()).st_size, source)
        names = [info.filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise WeightsError("two entries of one name", expected="a file that torch.save wrote", path=source)
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise WeightsError("an archive without one data.pkl", expected="a file that torch.save wrote", path=source)
        root = roots[0]
        if f"{root}byteorder" in names and read_member(archive, f"{root}byteorder", source) != b"little":
            raise WeightsError("big-endian numbers", expected="little-endian ones", path=source)
        if archive.getinfo(f"{root}data.pkl").file_size > MAX_PICKLE_BYTES:
            raise WeightsError("a pickle of more than 64 MiB", expected="names of tensors", path=source)
        program = read_member(archive, f"{root}data.pkl", source)
        content, _ = run_pickle(io.BytesIO(program), source)

        def numbers(storage: Storage) -> Array:
            wanted = storage.numbers * np.dtype(storage.dtype).itemsize
            name = f"{root}data/{storage.key}"
            if name not in names or archive.getinfo(name).file_size != wanted:
                raise _size_mismatch(source, storage)
            return np.frombuffer(read_member(archive, name, source), dtype=storage.dtype)

        return _fill(content, numbers, source, plain)


def _read_legacy(file: BinaryIO, source: Path, plain: Collection[str]) -> Any:
    """The format before PyTorch 1.6: four pickles, the storages' names, then their numbers."""
    if run_pickle(file, source)[0] != LEGACY_MAGIC or run_pickle(file, source)[0] != LEGACY_PROTOCOL:
        raise WeightsError("not a PyTorch file", expected="a file that torch.save wrote", path=source)
    system, _ = run_pickle(file, source)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsError("big-endian numbers", expected="little-endian ones", path=source)
    content, claims = run_pickle(file, source)
    keys, _ = run_pickle(file, source)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise WeightsError("no list of storages", expected="a file that torch.save wrote", path=source)
    found: dict[str, Array] = {}
    size = os.fstat(file.fileno()).st_size
    for key in keys:
        if key not in claims:
            raise WeightsError(f"a storage {key!r} of no tensor", expected="a file that torch.save wrote", path=source)
        storage = claims[key]
        (count,) = struct.unpack("<q", file.read(8))
        wanted = count * np.dtype(storage.dtype).itemsize
        if count != storage.numbers or wanted > size - file.tell():
            raise _size_mismatch(source, storage)
        found[key] = np.frombuffer(file.read(wanted), dtype=storage.dtype)
    if file.read(1):
        raise WeightsError("more bytes than its tensors have", expected="a file that torch.save wrote", path=source)
    return _fill(content, lambda storage: found[storage.key], source, plain)


def _fill(content: Any, numbers: Any, source: Path, plain: Collection[str]) -> Any:
    """The object with arrays in the place of views, two dictionaries deep; storages are read once."""
    read: dict[str, Array] = {}

    def array(view: View) -> Array:
        if view.storage.key not in read:
            read[view.storage.key] = numbers(view.storage)
        return _array(view, read[view.storage.key], source)

    def at(value: Any, depth: int) -> Any:
        if isinstance(value, View):
            return array(value)
        if isinstance(value, dict) and depth < 2:
            return {key: at(item, depth + 1) for key, item in value.items() if depth == 0 or isinstance(item, View)}
        return value if isinstance(value, (int, float, str, bool)) else None

    filled = at(content, 0)
    if isinstance(content, dict):
        filled.update({key: _plain(content[key], [MAX_PLAIN]) for key in plain if key in content})
    return filled


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """A copy of plain values; other objects become None, and a dictionary's keys are text and numbers alone.

    ``left`` counts down: a container that holds itself, or another many times over, is not copied without end.
    """
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise ValueError("plain values in values without end")
    if isinstance(value, dict):
        return {k: _plain(v, left, depth + 1) for k, v in value.items() if type(k) in (str, int, float, bool)}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, left, depth + 1) for item in value)
    return value if isinstance(value, (int, float, str, bool)) else None


def _array(view: View, flat: Array, source: Path) -> Array:
    if len(view.shape) != len(view.strides):
        raise _size_mismatch(source, view.storage)
    count = math.prod(view.shape)
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    # a tensor may share its storage, but not have more numbers than it: an expanded one costs memory when it is used
    if count and (view.offset < 0 or last >= flat.size or count > flat.size):
        raise _size_mismatch(source, view.storage)
    if not count:
        return np.zeros(view.shape, flat.dtype)
    steps = tuple(s * flat.itemsize for s in view.strides)
    array = np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, steps, writeable=False)
    if view.storage.is_bfloat16:
        # One axis at least: NumPy 1 makes an int64 of a shifted scalar.
        return (np.atleast_1d(array).astype(np.uint32) << 16).view(np.float32).reshape(view.shape)
    return array


def _size_mismatch(source: Path, storage: Storage) -> WeightsError:
    return WeightsError(
        f"storage {storage.key!r} claims {storage.numbers} numbers that are not there",
        expected="a whole file",
        fix="fetch it again",
        path=source,
    )
