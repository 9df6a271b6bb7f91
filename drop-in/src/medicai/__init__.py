"""The import name ``medicai``, answered by resvox: ``medicai.models`` with residual networks and U-Nets.

``import medicai`` loads no framework; ``medicai.models`` loads Keras.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["models"]


def __getattr__(name: str) -> Any:
    if name == "models":
        return importlib.import_module("medicai.models")
    raise AttributeError(
        f"module 'medicai' has no attribute {name!r}: this one is resvox's drop-in and holds medicai.models alone"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
