"""Attributes of DICOM data sets, decoded by pydicom when they are used; invalid ones raise an error of one line."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from resvox.errors import VolumeError

# pydicom reports every value that deviates from the standard; those that matter here raise VolumeError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\b")

DECODERS_PREFIX = re.compile(r"^Unable to decode as exceptions were raised by all available plugins: \w+: ")
LONGEST_REASON = 240  # characters of pydicom's error for a damaged file


def read_dataset(path: Path, tags: Sequence[str] | None = None) -> Dataset:
    """The data set of a file; with `tags`, only these attributes, without pixels.

    Raises:
        VolumeError: pydicom cannot read it.
    """
    try:
        return pydicom.dcmread(
            path,
            force=True,
            stop_before_pixels=tags is not None,
            specific_tags=None if tags is None else list(tags),
        )
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # pydicom raises many types for damaged files
        raise damaged(error, path) from None


def damaged(error: Exception, path: Path) -> VolumeError:
    """The error for an exception of pydicom on a file that violates the standard."""
    reason = DECODERS_PREFIX.sub("", shown(str(error) or type(error).__name__, LONGEST_REASON))
    return VolumeError(
        f"damaged DICOM file ({reason})",
        expected="a whole, undamaged DICOM image",
        fix="copy or export it again",
        path=path,
    )


def shown(value: str, longest: int = 60) -> str:
    """A value from a file for a message: in one line, printable, and short."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def groups_of(dataset: Dataset, path: Path) -> tuple[Dataset | None, Sequence[Dataset]]:
    """The shared functional group, or None, and those of the frames, empty for a file that has none."""
    shared = items_of(dataset, "SharedFunctionalGroupsSequence", path)
    return (shared[0] if shared else None), items_of(dataset, "PerFrameFunctionalGroupsSequence", path)


def macro_of(group: Dataset | None, shared: Dataset | None, name: str, path: Path) -> Dataset | None:
    """The item of a functional group macro: the frame's own, else the one that all frames share."""
    for holder in (group, shared):
        items = () if holder is None else items_of(holder, name, path)
        if items:
            return items[0]
    return None


def items_of(dataset: Dataset, name: str, path: Path) -> Sequence[Dataset]:
    """The items of a sequence, empty where it is missing.

    Raises:
        VolumeError: the attribute exists and is not a sequence.
    """
    value = value_of(dataset, name, path)
    if value is None:
        return ()
    if not isinstance(value, pydicom.Sequence):
        raise damaged(ValueError(f"{name} is not a sequence"), path)
    return value


def numbers(dataset: Dataset | None, name: str, count: int, path: Path) -> tuple[float, ...] | None:
    """`count` finite numbers of an attribute, None where it is missing or empty.

    Raises:
        VolumeError: anything else.
    """
    value = None if dataset is None else value_of(dataset, name, path)
    if value is None or value == "":
        return None
    parts = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if not parts:
        return None
    if len(found) != count or not all(map(math.isfinite, found)):
        raise VolumeError(
            f"{name} is {shown(str(value))}",
            expected=f"{count} finite number{'s' if count > 1 else ''}",
            fix="export the image again, or correct the attribute",
            path=path,
        )
    return found


def value_of(dataset: Dataset, name: str, path: Path) -> Any:
    """The decoded value of an attribute, None where it is missing.

    Raises:
        VolumeError: its bytes cannot be decoded.
    """
    try:
        return dataset.get(name)
    except Exception as error:  # values are decoded here; pydicom raises many types for damaged ones
        raise damaged(error, path) from None


def integer(dataset: Dataset, name: str, path: Path) -> int | None:
    """The integer of an attribute, None where it is missing or empty."""
    found = numbers(dataset, name, 1, path)
    return None if found is None else int(found[0])
