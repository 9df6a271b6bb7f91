"""Engines: what answers a batch of windows, each in a file of its own with its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine"]


@runtime_checkable
class Engine(Protocol):
    """Anything that answers a batch of windows; a plain function will do.

    ``(batch, channels, *roi)`` float32 in, ``(batch, classes, *roi)`` float32 logits out, both numpy.
    """

    def __call__(self, windows: np.ndarray, /) -> np.ndarray: ...


def __getattr__(name: str) -> object:
    if name == "TorchEngine":
        from resvox.inference.engines.torch_engine import TorchEngine

        return TorchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
