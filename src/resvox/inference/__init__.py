"""Inference: a volume of any size goes through a small window.

The loop knows numpy only; torch is imported when :class:`TorchEngine` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.inference.engines import Engine
from resvox.inference.ensemble import EnsembleEngine
from resvox.inference.heads import LinearHead
from resvox.inference.reduction import labels_from_logits, probabilities_from_logits
from resvox.inference.restoring import Restorer, can_restore
from resvox.inference.sliding_window import sliding_window_inference
from resvox.inference.streaming import FinishedSlice, WindowCount, stream_sliding_window

if TYPE_CHECKING:
    from resvox.inference.engines.choosing import make_engine
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = [
    "Engine",
    "EnsembleEngine",
    "FinishedSlice",
    "LinearHead",
    "Restorer",
    "TorchEngine",
    "WindowCount",
    "can_restore",
    "labels_from_logits",
    "make_engine",
    "probabilities_from_logits",
    "sliding_window_inference",
    "stream_sliding_window",
]


def __getattr__(name: str) -> object:
    if name in ("TorchEngine", "make_engine"):
        import resvox.inference.engines

        return getattr(resvox.inference.engines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
