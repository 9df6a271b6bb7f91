"""Inference: a volume of any size goes through a small window.

The loop knows numpy only; torch is imported when :class:`TorchEngine` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.inference.engines import Engine
from resvox.inference.reduction import labels_from_logits, probabilities_from_logits
from resvox.inference.sliding_window import sliding_window_inference

if TYPE_CHECKING:
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = [
    "Engine",
    "TorchEngine",
    "labels_from_logits",
    "probabilities_from_logits",
    "sliding_window_inference",
]


def __getattr__(name: str) -> object:
    if name == "TorchEngine":
        from resvox.inference.engines.torch_engine import TorchEngine

        return TorchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
