"""Pictures and pages: overlays of label maps on scans, training curves, and a self-contained report.

Names are imported when they are first used: Matplotlib takes longer to load than most commands take to run.
"""

from __future__ import annotations

from resvox.lazy import lazy_names

__all__ = ["View", "curve_png", "label_colours", "overlay_png", "page", "view", "write_page"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".colours": ("label_colours",),
        ".pictures": ("curve_png", "overlay_png"),
        ".report": ("page", "write_page"),
        ".interactive": ("View", "view"),
    },
)
