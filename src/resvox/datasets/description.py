"""A `dataset.json`, understood once for every task: names of channels, values of labels, endings, counts.

The dialects are those of the Medical Segmentation Decathlon, nnU-Net (v1 and v2) and MONAI's datalists. A field is used
as it is meant, or refused in a line that names the file and the field.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resvox.datasets.encodings import read_text
from resvox.errors import DatasetError

_SHOWN = 120  # characters of a field in a message


class _RepeatedKeyError(Exception):
    """A JSON object has one key two times."""


def read_json(source: Path) -> dict[str, Any]:
    """The object in a JSON file, in any encoding of `read_text`.

    Raises:
        DatasetError: no such file, text that is not JSON, something other than an object, or one key two times.
    """
    if not source.is_file():
        raise DatasetError(
            "no dataset.json",
            expected="the MSD or nnU-Net layout: dataset.json, imagesTr, labelsTr",
            fix="write dataset.json, or pass a CSV manifest with the columns image,label,split; "
            "for folders of classes, --task classification",
            path=source.parent,
        )
    try:
        described = json.loads(read_text(source), object_pairs_hook=_once)
    except _RepeatedKeyError as twice:
        raise DatasetError(
            f"the key {twice.args[0]!r} two times in one object", expected="each key once", path=source
        ) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DatasetError(f"not JSON ({why})", expected="a JSON object", path=source) from error
    if not isinstance(described, dict):
        raise DatasetError("not a JSON object", expected='{"labels": ..., ...}', path=source)
    return described


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


def shown(value: Any) -> str:
    """A value of a JSON file as written in a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read_channel_names(described: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """One name per channel, in order, of the field ``channel_names`` (nnU-Net) or ``modality`` (MSD).

    ``{"0": "CT"}``, ``{"CT": 0}``, ``["CT"]`` and ``"CT"`` are one thing.

    Raises:
        DatasetError: neither field, numbers that have a gap, names that are not text.
    """
    field = next((key for key in ("channel_names", "modality") if described.get(key) not in (None, {}, [], "")), None)
    if field is None:
        raise DatasetError(
            "neither channel_names nor modality",
            expected='channel_names {"0": "CT"} (nnU-Net) or modality {"0": "CT"} (MSD)',
            path=source,
        )
    return read_names(described[field], field, source)


def read_names(value: Any, field: str, source: Path) -> tuple[str, ...]:
    """Names in the order of their numbers, from an object, its inverse, a list or a word.

    Raises:
        DatasetError: numbers with a gap or twice, names that are not text.
    """
    expected = 'an object {"0": "CT", "1": "PET"}, or a list of names in order'
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Mapping):
        numbers = [whole(key) for key in value]
        names: list[Any] = list(value.values())
        if None in numbers and all(whole(name) is not None for name in names):
            numbers, names = [whole(name) for name in names], list(value)  # {"CT": 0}
        start = 1 if numbers and 0 not in numbers else 0
        if None in numbers or sorted(n for n in numbers if n is not None) != list(range(start, start + len(numbers))):
            raise DatasetError(
                f"{field} {shown(value)}", expected=f"{expected}; numbers 0, 1, 2, ... without a gap", path=source
            )
        value = [name for _, name in sorted(zip(numbers, names, strict=True), key=lambda pair: pair[0] or 0)]
    if not isinstance(value, list) or not value:
        raise DatasetError(f"{field} {shown(value)}", expected=expected, path=source)
    if any((isinstance(name, (Mapping, Sequence)) and not isinstance(name, str)) or name is None for name in value):
        raise DatasetError(f"{field} {shown(value)}", expected=expected, path=source)
    texts = tuple(str(name).strip() for name in value)
    if not all(texts):
        raise DatasetError(f"{field} {shown(value)}: an empty name", expected=expected, path=source)
    return texts


def read_ending(described: Mapping[str, Any], source: Path) -> str | None:
    """The field ``file_ending`` in lower case with its dot, or None.

    Raises:
        DatasetError: something other than an ending.
    """
    ending = described.get("file_ending")
    if ending in (None, ""):
        return None
    if not isinstance(ending, str) or not ending.strip(". ") or "/" in ending:
        raise DatasetError(f"file_ending {shown(ending)}", expected='an ending as ".nii.gz"', path=source)
    return f".{ending.strip().lower().lstrip('.')}"


def read_title(described: Mapping[str, Any], folder: Path) -> str:
    """The dataset's name: the field ``name``, otherwise the folder's."""
    name = described.get("name")
    return name.strip() if isinstance(name, str) and name.strip() else folder.resolve().name


def warn_of_counts(described: Mapping[str, Any], *, training: int, source: Path) -> None:
    """Warn where ``numTraining`` is not the number of cases with labels that were found."""
    declared = described.get("numTraining")
    if declared is not None and declared != training:
        warnings.warn(
            f"{source}: numTraining is {shown(declared)}, and {training} labelled cases were found",
            UserWarning,
            stacklevel=2,
        )


def whole(value: Any) -> int | None:
    """A whole number, given as number or text; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def number(value: Any) -> float | int | None:
    """A finite number, given as number or text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() else _finite(value)
    except ValueError:
        return None


def _finite(value: float | str) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
