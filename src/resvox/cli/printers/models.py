"""What `resvox models --show` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resvox.cli.printers.console import line

if TYPE_CHECKING:
    from resvox.prediction.showing.description import Description

FEW = 12  # labels that are listed one by one
WIDTH = 14
# the rows, and how each is written
BY = {"spacing_mm": " mm", "window": " voxels"}


def show_description(description: Description) -> None:
    """One row per fact."""
    values = description.to_dict()
    for name, value in values.items():
        line(f"{name.replace('_', ' '):{WIDTH}}{_text(name, value)}")


def _text(name: str, value: Any) -> str:
    if name == "labels":
        return _labels(value)
    if name in BY:
        return " x ".join(f"{number:g}" for number in value) + BY[name]
    if name == "parameters":
        return f"{value:,}"
    if name == "preprocessing" and isinstance(value.get("transforms"), list):
        return "; ".join(_transform(each) for each in value["transforms"]) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(each)}" for key, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _labels(labels: Mapping[str, int]) -> str:
    rows = [f"{value} {name}" for name, value in sorted(labels.items(), key=lambda item: item[1])]
    more = len(rows) - FEW
    return ", ".join(rows[:FEW]) + (f" and {more} more (--json lists all)" if more > 0 else "")


def _transform(values: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name} {_short(each)}" for name, each in values.items() if name != "transform")
    return f"{values['transform']}" + (f" ({given})" if given else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
