"""Reading typed values out of a JSON object; each error names the file and the field."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from resvox.errors import WeightsError

MADE_BY_TRAINING = "a model made by resvox train, which knows how its scans were prepared"


class Fields:
    """A JSON object of a model file, read field by field.

    Args:
        values: the object.
        path: the file it came from, named in errors; None for one that was not read from a file.
        prefix: put before a field's name in errors, such as ``"inference."``.
    """

    def __init__(self, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def require(self, *names: str) -> None:
        """Check that the fields are present, so that one error lists all that are missing.

        Raises:
            WeightsError: some are missing.
        """
        missing = [f"{self.prefix}{name}" for name in names if name not in self.values]
        if missing:
            raise WeightsError(
                f"a model file without {', '.join(missing)}",
                expected=MADE_BY_TRAINING,
                fix="use resvox.load_model for the bare network",
                path=self.path,
            )

    def reject(self, name: str, expected: str) -> NoReturn:
        """Raise the error for a field whose value is not what it should be."""
        raise WeightsError(
            f"{self.prefix}{name}={reprlib.repr(self.values.get(name))} in a model file",
            expected=expected,
            fix="train or export the model again, or correct what was given to save_model(metadata=...)",
            path=self.path,
        )

    def object(self, name: str) -> Mapping[str, Any]:
        """A JSON object."""
        value = self.values[name]
        if not isinstance(value, Mapping):
            self.reject(name, "an object of names and values")
        return value

    def nested(self, name: str) -> Fields:
        """A JSON object, to be read field by field."""
        return Fields(self.object(name), path=self.path, prefix=f"{self.prefix}{name}.")

    def nested_list(self, name: str) -> list[Fields]:
        """A list of JSON objects, each to be read field by field; empty where the field is missing."""
        found = self.values.get(name) or []
        if not isinstance(found, (list, tuple)) or not all(isinstance(each, Mapping) for each in found):
            self.reject(name, "a list of objects")
        return [
            Fields(each, path=self.path, prefix=f"{self.prefix}{name}.{place}.") for place, each in enumerate(found)
        ]

    def text(self, name: str, *, choices: Sequence[str]) -> str:
        """One of several words."""
        value = self.values[name]
        if value not in choices:
            self.reject(name, " or ".join(map(repr, choices)))
        return str(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; ``default`` where the field is missing."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.reject(name, "true or false")
        return value

    def name(self, name: str) -> str:
        """A text that is not empty."""
        value = self.values[name]
        if not isinstance(value, str) or not value:
            self.reject(name, "a text")
        return value

    def number(self, name: str, *, default: float, low: float, below: float) -> float:
        """A number in ``[low, below)``; ``default`` where the field is missing."""
        value = self.values.get(name, default)
        if not _is_number(value) or not low <= value < below:
            self.reject(name, f"a number from {low:g} to below {below:g}")
        return float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of at least one finite number."""
        return tuple(float(value) for value in self._list(name, _is_finite, "a list of finite numbers"))

    def sizes(self, name: str) -> tuple[int, ...]:
        """A size in voxels for each of 2 or 3 axes."""
        expected = "a whole number of voxels above 0 for each of 2 or 3 axes"
        values = self._list(name, lambda value: _is_whole(value) and value > 0, expected)
        if len(values) not in (2, 3):
            self.reject(name, expected)
        return tuple(values)

    def axes(self, name: str, *, dims: int) -> tuple[int, ...]:
        """Different spatial axes counted from 0; none where the field is missing or null."""
        if self.values.get(name) is None:
            return ()
        expected = f"a list of different axes out of {', '.join(map(str, range(dims)))}"
        values = self._list(name, lambda value: _is_whole(value) and 0 <= value < dims, expected, empty=True)
        if len(set(values)) != len(values):
            self.reject(name, expected)
        return tuple(values)

    def names(self, name: str) -> tuple[str, ...]:
        """A list of at least one text."""
        return tuple(self._list(name, lambda value: isinstance(value, str), "a list of names"))

    def whole(self, name: str, *, default: int) -> int:
        """A whole number above 0; ``default`` where the field is missing."""
        value = self.values.get(name, default)
        if not _is_whole(value) or value < 1:
            self.reject(name, "a whole number above 0")
        return int(value)

    def label_value(self, name: str) -> int:
        """A value of a label map."""
        value = self.values[name]
        if not _is_whole(value) or value < 0:
            self.reject(name, "a whole number from 0")
        return int(value)

    def label_values(self, name: str) -> tuple[int, ...]:
        """Values of a label map: a list of at least one, or a single one."""
        if _is_whole(self.values[name]):
            return (self.label_value(name),)
        return tuple(self._list(name, lambda each: _is_whole(each) and each >= 0, "a list of whole numbers from 0"))

    def labels(self, name: str) -> dict[str, int]:
        """Names and their different whole numbers, 0 or above, in the order of the file."""
        expected = "an object of names and different whole numbers from 0"
        values = dict(self.object(name))
        good = values and all(_is_whole(value) and value >= 0 for value in values.values())
        if not good or len(set(values.values())) != len(values):
            self.reject(name, expected)
        return {str(key): int(value) for key, value in values.items()}

    def _list(self, name: str, fits: Callable[[Any], bool], expected: str, *, empty: bool = False) -> list[Any]:
        value = self.values[name]
        if not isinstance(value, (list, tuple)) or not (value or empty) or not all(map(fits, value)):
            self.reject(name, expected)
        return list(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and abs(value) < float("inf")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
