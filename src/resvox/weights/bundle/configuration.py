"""The configuration of a bundle, read as data: values and references; code in it is never run.

What begins with ``$`` is Python code for MONAI. A few forms of it are plain values, and are recognised as text: a
literal (``$[1.5, 1.5]``), a reference (``$@transforms``), a choice between literals by a reference
(``$[1.5] if @highres else [3.0]``), and MONAI's names of keys (``$monai.utils.CommonKeys.IMAGE``).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError

FILES = ("inference.json", "inference.yaml", "inference.yml")
METADATA = "metadata.json"
MAX_BYTES = 16 * 2**20
MAX_DEPTH = 40  # of values in values and of references to references
MAX_VALUES = 100_000  # that one value may come to: a small file can refer to itself many times over
MAX_CODE = 300  # characters that are looked at
_CHOICE = re.compile(
    r"(?P<yes>.+?)\s+if\s+(?P<no>not\s+)?@(?P<reference>[\w#:]+)\s+else\s+(?P<otherwise>.+)", re.DOTALL
)
_KEYS = {f"monai.utils.CommonKeys.{name.upper()}": name for name in ("image", "label", "pred")}


class Configuration:
    """``configs/inference.json`` or ``.yaml`` of a bundle.

    Args:
        values: its contents.
        path: the file, named in errors.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values = values
        self.path = path

    @staticmethod
    def read(folder: Path) -> Configuration:
        """The one configuration of a bundle.

        Raises:
            WeightsError: none, several, or one that cannot be read.
        """
        found = configuration_files(folder)
        if len(found) != 1:
            raise WeightsError(
                f"{len(found)} configurations: {', '.join(path.name for path in found)}"
                if found
                else "no configuration",
                expected=f"one of configs/{', '.join(FILES)}",
                fix="remove all but the one that is to be used" if found else "",
                path=folder,
            )
        return Configuration(read_object(found[0], "a configuration"), found[0])

    def value(self, name: str) -> Any:
        """The value of a key without references; None where it is missing."""
        return self.literal(self.values.get(name), name)

    def literal(self, value: Any, where: str) -> Any:
        """A value without references.

        Args:
            value: as the file has it.
            where: its place in the file, named in errors.

        Raises:
            WeightsError: code where a value is needed, or a reference to nothing or to itself.
        """
        return self._literal(value, where, 0, [MAX_VALUES])

    def followed(self, value: str, where: str) -> Any:
        """What a reference refers to, one step, or the value of a harmless form of code; what is in it stays as it is.

        Raises:
            WeightsError: as of `literal`.
        """
        return self._of_code(value, where) if value.startswith("$") else self._referred(value[1:], where)

    def _literal(self, value: Any, where: str, depth: int, budget: list[int]) -> Any:
        budget[0] -= 1
        if depth > MAX_DEPTH or budget[0] < 0:
            raise WeightsError(f"{where} refers to itself, or to very much", expected="values", path=self.path)
        if isinstance(value, dict):
            return {key: self._literal(each, f"{where}.{key}", depth + 1, budget) for key, each in value.items()}
        if isinstance(value, list):
            return [self._literal(each, where, depth + 1, budget) for each in value]
        if isinstance(value, str) and value.startswith("$"):
            return self._literal(self._of_code(value, where), where, depth + 1, budget)
        if isinstance(value, str) and value.startswith("@"):
            return self._literal(self._referred(value[1:], where), where, depth + 1, budget)
        if isinstance(value, str) and value.startswith("%"):
            raise WeightsError(f"{where} is {value[:60]!r}", expected="a value of this file", path=self.path)
        return value

    def _of_code(self, code: str, where: str) -> Any:
        """The value that a harmless form of code stands for."""
        text = code[1:].strip()
        if text in _KEYS:
            return _KEYS[text]
        if re.fullmatch(r"@[\w#:]+", text):
            return text
        choice = _CHOICE.fullmatch(text) if len(text) <= MAX_CODE else None
        if choice is not None:
            flag = self.literal(f"@{choice['reference']}", where)
            if isinstance(flag, bool):
                text = choice["yes" if flag != bool(choice["no"]) else "otherwise"]
        try:
            return _plain(ast.literal_eval(text if len(text) <= MAX_CODE else "@"))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise WeightsError(
                f"{where} is Python code ({code[:60]!r})",
                expected="a value or a reference: code in a bundle is never run",
                fix=f"write its value into {self.path.name}",
                path=self.path,
            ) from None

    def _referred(self, reference: str, where: str) -> Any:
        found: Any = self.values
        for part in re.split("::|#", reference):
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise WeightsError(
                    f"{where} refers to {reference!r}", expected="a key of the configuration", path=self.path
                )
        return found


def configuration_files(folder: Path) -> list[Path]:
    """The configurations of a bundle that are there."""
    return [path for path in (folder / "configs" / name for name in FILES) if path.is_file()]


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON or YAML file.

    Raises:
        WeightsError: a file that cannot be read, or something else in it.
    """
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{what} of {path.stat().st_size} bytes", expected=f"at most {MAX_BYTES}", path=path)
        text = path.read_bytes()
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(f"{what} that cannot be read", expected="JSON or YAML", path=path) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{what} that is a {type(found).__name__}", expected="an object", path=path)
    return found


def _plain(value: Any) -> Any:
    """Literals of Python as JSON has them.

    Raises:
        ValueError: a set, bytes, or another value that JSON lacks.
    """
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a {type(value).__name__}")
