"""A pickle run with stand-ins: tensors become notes of where they lie, and nothing else happens."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from resvox.errors import WeightsError

MAX_PICKLE_BYTES = 64 * 2**20
MAX_TUPLE = 10_000  # a shape has a few numbers, the arguments of a tensor six
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
class Storage:
    """A range of numbers in the file, as the pickle describes it."""

    dtype: str
    is_bfloat16: bool
    key: str
    numbers: int


@dataclass(frozen=True, kw_only=True)
class View:
    """A tensor as the pickle describes it: its offset in a storage, its shape and its strides."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Nothing:
    """A stub for objects that are not tensors: accepts every argument and keeps nothing."""

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
    good = isinstance(storage, Storage) and type(offset) is int
    good = good and all(
        isinstance(axes, tuple) and all(type(n) is int and n >= 0 for n in axes) for axes in (shape, strides)
    )
    if not good:
        raise pickle.UnpicklingError("not a tensor")
    return View(storage=storage, offset=offset, shape=shape, strides=strides)  # type: ignore[arg-type]


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


class Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Runs a pickle with stand-ins alone.

    Python's own unpickler instead of the C one: its notes are a dictionary, so a large number costs no memory; and
    tuples can be counted on the way, because to hash one that holds itself many times over never ends.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined,misc]

    def __init__(self, file: Bounded, path: Path | str) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._sizes: dict[int, tuple[object, int]] = {}
        self.storages: dict[str, Storage] = {}

    def _count(self) -> None:
        """After a tuple was made: how many objects it holds, counting shared ones every time."""
        made = self.stack[-1]  # type: ignore[attr-defined]
        size = 1 + sum(self._sizes.get(id(item), (item, 1))[1] for item in made)
        if size > MAX_TUPLE:
            raise pickle.UnpicklingError("tuples in tuples without end")
        self._sizes[id(made)] = made, size

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global that a pickle names; other globals are rejected."""
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
        """The description of a storage; its numbers are read later."""
        good = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)
        good = good and isinstance(pid[2], str) and type(pid[4]) is int and pid[4] >= 0
        # the sixth entry is a view into another storage, which PyTorch stopped writing in 2017
        if not good or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("not a storage")
        kind: _StorageType = pid[1]
        is_bfloat16 = kind.name == "BFloat16Storage"
        storage = Storage(dtype=STORAGES[kind.name], is_bfloat16=is_bfloat16, key=pid[2], numbers=pid[4])
        if self.storages.setdefault(storage.key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {storage.key!r} of two kinds")
        return storage


def _counted(code: bytes) -> Callable[[Reader], None]:
    load: Any = pickle._Unpickler.dispatch[code[0]]  # type: ignore[attr-defined]

    def run(reader: Reader) -> None:
        load(reader)
        reader._count()

    return run


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    Reader.dispatch[_code[0]] = _counted(_code)


class Bounded:
    """A file that gives no more bytes than it has: a pickle may ask for any number at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left = min(MAX_PICKLE_BYTES, bytes_left(file))

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


def run_pickle(file: Any, source: Path) -> tuple[Any, dict[str, Storage]]:
    """One pickle of the file: its object, and the storages it names.

    Raises:
        WeightsError: it calls what it should not.
        Exception: of any kind, where it is broken.
    """
    reader = Reader(Bounded(file), source)
    return reader.load(), reader.storages


def bytes_left(file: Any) -> int:
    """From where an open file stands to its end."""
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return int(end - here)
