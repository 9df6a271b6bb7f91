"""What an engine is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Engine(Protocol):
    """Anything that answers a batch of windows; a plain function will do.

    ``(batch, channels, *roi)`` float32 in, ``(batch, classes, *roi)`` float32 logits out, both numpy. Those of this
    package also say what they are: ``name``, ``device``, ``precision``.
    """

    def __call__(self, windows: np.ndarray, /) -> np.ndarray: ...
