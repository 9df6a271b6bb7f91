"""PyTorch's ``.pth`` files as arrays, without PyTorch and without unpickling anything but names and numbers.

A pickle is a program. This one runs with every global replaced by a stand-in of ours: what builds tensors becomes a
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
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError
from resvox.weights.archives import check_members, open_zip, read_member

Array = npt.NDArray[Any]

MAX_PICKLE_BYTES = 64 * 2**20
MAX_TUPLE = 10_000  # a shape has a few numbers, the arguments of a tensor six
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# what training scripts keep beside tensors; read as nothing
HARMLESS = {
    "argparse.Namespace",
    "_codecs.encode",
    "collections.Counter",
    "collections.defaultdict",
    "datetime.datetime",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.Size",
    "torch.device",
    "torch.float16",
    "torch.float32",
    "torch.float64",
    "torch.bfloat16",
    "torch.serialization._get_layout",
}


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """A stretch of numbers in the file, as the pickle says."""

    dtype: str
    is_bfloat16: bool
    key: str
    numbers: int


@dataclass(frozen=True, kw_only=True)
class _View:
    """A tensor as the pickle says: where in a storage it begins and how far apart its neighbours are."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Nothing:
    """What stands in for objects that are no tensors: takes everything, keeps nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """As of a list."""

    def extend(self, items: object) -> None:
        """As of a list."""


@dataclass(frozen=True)
class _StorageType:
    """What stands in for ``torch.FloatStorage`` and its like."""

    name: str


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> object:
    good = isinstance(storage, _Storage) and type(offset) is int
    good = good and all(
        isinstance(axes, tuple) and all(type(n) is int and n >= 0 for n in axes) for axes in (shape, strides)
    )
    if not good:
        raise pickle.UnpicklingError("a tensor that is none")
    return _View(storage=storage, offset=offset, shape=shape, strides=strides)  # type: ignore[arg-type]


def _rebuild_parameter(data: object, *rest: object) -> object:
    return data


_STAND_INS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.nn.parameter.Parameter": _rebuild_parameter,
    **{f"torch.{name}": _StorageType(name) for name in STORAGES},
    **dict.fromkeys(HARMLESS, _Nothing),
}


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Runs a pickle with stand-ins alone.

    Python's own unpickler instead of the C one: its notes are a dictionary, so a large number costs no memory; and
    tuples can be counted on the way, because to hash one that holds itself many times over never ends.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined,misc]

    def __init__(self, file: _Bounded, path: Path | str) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._sizes: dict[int, tuple[object, int]] = {}
        self.storages: dict[str, _Storage] = {}

    def _count(self) -> None:
        """After a tuple was made: how many objects it holds, counting shared ones every time."""
        made = self.stack[-1]  # type: ignore[attr-defined]
        size = 1 + sum(self._sizes.get(id(item), (item, 1))[1] for item in made)
        if size > MAX_TUPLE:
            raise pickle.UnpicklingError("tuples in tuples without end")
        self._sizes[id(made)] = made, size

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _STAND_INS:
            raise WeightsError(
                f"a pickle that calls {full[:100]}",
                expected="tensors and plain containers alone",
                fix="if you trust the file, load it with its own library and save its state dict as .safetensors",
                path=self._path,
            )
        return _STAND_INS[full]

    def persistent_load(self, pid: Any) -> Any:
        good = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)
        good = good and isinstance(pid[2], str) and type(pid[4]) is int and pid[4] >= 0
        # the sixth entry is a view into another storage, which PyTorch stopped writing in 2017
        if not good or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("a storage that is none")
        kind: _StorageType = pid[1]
        is_bfloat16 = kind.name == "BFloat16Storage"
        storage = _Storage(dtype=STORAGES[kind.name], is_bfloat16=is_bfloat16, key=pid[2], numbers=pid[4])
        if self.storages.setdefault(storage.key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {storage.key!r} of two kinds")
        return storage


def _counted(code: bytes) -> Callable[[_Reader], None]:
    load: Any = pickle._Unpickler.dispatch[code[0]]  # type: ignore[attr-defined]

    def run(reader: _Reader) -> None:
        load(reader)
        reader._count()

    return run


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Reader.dispatch[_code[0]] = _counted(_code)


class _Bounded:
    """A file that gives no more bytes than it has: a pickle may ask for any number at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left = min(MAX_PICKLE_BYTES, _left(file))

    def read(self, count: int) -> bytes:
        """As of a file."""
        if count > self.left:
            raise EOFError("it ends before its pickle does")
        self.left -= count
        return bytes(self._file.read(count))

    def readline(self) -> bytes:
        """As of a file."""
        line = bytes(self._file.readline(self.left))
        self.left -= len(line)
        return line


def read_pickled(path: str | os.PathLike[str]) -> Any:
    """The object in a file that ``torch.save`` wrote, its tensors as read-only arrays, other objects as nothing.

    bfloat16 becomes float32, which holds every one of its values.

    Raises:
        WeightsError: no such file, a program that calls what it should not, a broken or truncated file, or one that
            claims more numbers than it holds.
    """
    source = Path(path)
    try:
        with open(source, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(file, source) if zipped else _read_legacy(file, source)
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


def _read_zip(file: BinaryIO, source: Path) -> Any:
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
        told, _ = _run(io.BytesIO(program), source)

        def numbers(storage: _Storage) -> Array:
            wanted = storage.numbers * np.dtype(storage.dtype).itemsize
            name = f"{root}data/{storage.key}"
            if name not in names or archive.getinfo(name).file_size != wanted:
                raise _lies(source, storage)
            return np.frombuffer(read_member(archive, name, source), dtype=storage.dtype)

        return _fill(told, numbers, source)


def _read_legacy(file: BinaryIO, source: Path) -> Any:
    """The format before PyTorch 1.6: four pickles, the storages' names, then their numbers."""
    if _run(file, source)[0] != LEGACY_MAGIC or _run(file, source)[0] != LEGACY_PROTOCOL:
        raise WeightsError("not a PyTorch file", expected="a file that torch.save wrote", path=source)
    system, _ = _run(file, source)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsError("big-endian numbers", expected="little-endian ones", path=source)
    told, claims = _run(file, source)
    keys, _ = _run(file, source)
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
            raise _lies(source, storage)
        found[key] = np.frombuffer(file.read(wanted), dtype=storage.dtype)
    if file.read(1):
        raise WeightsError("more bytes than its tensors have", expected="a file that torch.save wrote", path=source)
    return _fill(told, lambda storage: found[storage.key], source)


def _run(file: Any, source: Path) -> tuple[Any, dict[str, _Storage]]:
    """One pickle of the file: its object, and the storages it names."""
    reader = _Reader(_Bounded(file), source)
    return reader.load(), reader.storages


def _left(file: Any) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return int(end - here)


def _fill(told: Any, numbers: Any, source: Path) -> Any:
    """The object with arrays in the place of views, two dictionaries deep; storages are read once."""
    read: dict[str, Array] = {}

    def array(view: _View) -> Array:
        if view.storage.key not in read:
            read[view.storage.key] = numbers(view.storage)
        return _array(view, read[view.storage.key], source)

    def at(value: Any, depth: int) -> Any:
        if isinstance(value, _View):
            return array(value)
        if isinstance(value, dict) and depth < 2:
            return {key: at(item, depth + 1) for key, item in value.items() if depth == 0 or isinstance(item, _View)}
        return value if isinstance(value, (int, float, str, bool)) else None

    return at(told, 0)


def _array(view: _View, flat: Array, source: Path) -> Array:
    if len(view.shape) != len(view.strides):
        raise _lies(source, view.storage)
    count = math.prod(view.shape)
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    # a tensor may share its storage, but not have more numbers than it: an expanded one costs memory when it is used
    if count and (view.offset < 0 or last >= flat.size or count > flat.size):
        raise _lies(source, view.storage)
    if not count:
        return np.zeros(view.shape, flat.dtype)
    steps = tuple(s * flat.itemsize for s in view.strides)
    array = np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, steps, writeable=False)
    if view.storage.is_bfloat16:
        return np.asarray(np.left_shift(array.astype(np.uint32), 16)).view(np.float32).reshape(view.shape)
    return array


def _lies(source: Path, storage: _Storage) -> WeightsError:
    return WeightsError(
        f"storage {storage.key!r} claims {storage.numbers} numbers that are not there",
        expected="a whole file",
        fix="fetch it again",
        path=source,
    )
