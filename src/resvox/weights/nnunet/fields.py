"""Typed values out of the JSON files of an nnU-Net model; each error names the file and the field."""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from resvox.errors import WeightsError

Value = TypeVar("Value")

MAX_JSON_BYTES = 64 * 2**20
LARGEST = 10**300  # whole numbers beyond it are not numbers with a point
_MISSING = object()


class JsonFields:
    """A JSON object, read field by field.

    Args:
        values: the object.
        path: the file that it came from, named in errors.
        prefix: put before a field's name in errors, such as ``"configurations.2d."``.
    """

    def __init__(self, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def reject(self, name: str, expected: str, fix: str = "") -> NoReturn:
        """Raise the error for a field whose value is not what it should be."""
        shown = reprlib.repr(self.values[name]) if name in self.values else "missing"
        raise WeightsError(f"{self.prefix}{name} is {shown}", expected=expected, fix=fix, path=self.path)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def read(self, name: str, fits: Callable[[Any], bool], expected: str, default: Any = _MISSING) -> Any:
        """The field's value, checked; ``default`` where it is missing or null and a default is given."""
        value = self.values.get(name)
        if value is None and default is not _MISSING:
            return default
        if name not in self.values or not fits(value):
            self.reject(name, expected)
        return value

    def nested(self, name: str) -> JsonFields:
        """A JSON object, to be read field by field."""
        value = self.read(name, lambda each: isinstance(each, Mapping), "an object of names and values")
        return JsonFields(value, path=self.path, prefix=f"{self.prefix}{name}.")

    def object(self, name: str, default: Any = _MISSING) -> dict[str, Any]:
        """A JSON object."""
        return dict(self.read(name, lambda each: isinstance(each, Mapping), "an object of names and values", default))

    def text(self, name: str, default: Any = _MISSING) -> str:
        """The text of a field."""
        return str(self.read(name, lambda each: isinstance(each, str), "a text", default))

    def optional_text(self, name: str) -> str | None:
        """The text of a field; None where it is missing or null."""
        return self.text(name) if self.has(name) else None

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """A field that is true or false."""
        return bool(self.read(name, lambda each: isinstance(each, bool), "true or false", default))

    def whole(self, name: str, *, least: int = 0, default: Any = _MISSING) -> int:
        """A whole number of at least ``least``."""
        return int(self.read(name, lambda each: is_whole(each, least), f"a whole number of at least {least}", default))

    def number(self, name: str) -> float:
        """A finite number."""
        return float(self.read(name, is_finite, "a finite number"))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers above 0."""
        return tuple(float(each) for each in self.items(name, lambda each: is_finite(each) and each > 0, "numbers > 0"))

    def wholes(self, name: str, *, least: int = 1) -> tuple[int, ...]:
        """A list of whole numbers of at least ``least``; a single number counts as a list of one."""
        if is_whole(self.values.get(name), least):
            return (int(self.values[name]),)
        return tuple(self.items(name, lambda each: is_whole(each, least), f"whole numbers of at least {least}"))

    def axes(self, name: str) -> tuple[tuple[int, ...], ...]:
        """A list of lists of whole numbers above 0, each with one number per axis."""
        found = self.items(name, _is_per_axis, "lists of whole numbers above 0, one per axis")
        return tuple(tuple(each) for each in found)

    def items(self, name: str, fits: Callable[[Any], bool], expected: str) -> list[Any]:
        """A list of at least one value, each of which fits."""
        text = f"a list of {expected}"
        return list(self.read(name, lambda each: isinstance(each, list) and bool(each) and all(map(fits, each)), text))


def is_whole(value: Any, least: int) -> bool:
    """Whether this is a whole number of at least ``least``; true and false are rejected."""
    return type(value) is int and value >= least


def is_finite(value: Any) -> bool:
    """Whether this is a finite number; true and false are rejected."""
    if type(value) is int:
        return abs(value) < LARGEST
    return type(value) is float and math.isfinite(value)


def _is_per_axis(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (2, 3) and all(is_whole(each, 1) for each in value)


def read_json(path: Path) -> JsonFields:
    """The object in a JSON file.

    Raises:
        WeightsError: no such file, not JSON, too large, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError("a JSON file of more than 64 MiB", expected="a file that nnU-Net wrote", path=path)
        content = json.loads(path.read_bytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be read ({reason})", expected="a file that nnU-Net wrote", path=path) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"not JSON ({str(error)[:100]})", expected="a file that nnU-Net wrote", path=path) from error
    if not isinstance(content, dict):
        raise WeightsError(f"a JSON {type(content).__name__}", expected="an object", path=path)
    return JsonFields(content, path=path)
