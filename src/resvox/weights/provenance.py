"""Where a model's weights came from; kept beside the model while it lives, and in its file."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_ORIGINS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
ORIGIN = "weights_from"  # in the metadata of a model file


def remember(model: Any, origin: dict[str, Any]) -> None:
    """Note where the weights of a model came from."""
    _ORIGINS[model] = origin


def origin_of(model: Any) -> dict[str, Any] | None:
    """Where the weights of a model came from (``LoadReport.to_dict()``); None where it is unknown."""
    return _ORIGINS.get(model)
