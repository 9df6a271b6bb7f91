"""Pictures and pages: overlays of label maps on scans, training curves, and a self-contained report.

Names are imported when they are first used: Matplotlib takes longer to load than most commands take to run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "label_colours": "colours",
    "overlay_png": "pictures",
    "curve_png": "pictures",
    "page": "report",
    "write_page": "report",
    "View": "interactive",
    "view": "interactive",
}
__all__ = ["View", "curve_png", "label_colours", "overlay_png", "page", "view", "write_page"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"resvox.viewer.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
