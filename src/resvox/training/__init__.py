"""From labelled scans to a trained network: dataset, fingerprint, plan, loop.

`read_dataset`, `take_fingerprint` and `draw_plan` need no torch; `fit` loads it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.training.dataset import Case, Dataset, Split, read_dataset
    from resvox.training.drawing import draw_plan
    from resvox.training.fingerprint import Fingerprint, take_fingerprint
    from resvox.training.loop import FitResult, fit
    from resvox.training.plan import Plan

# TensorBoard, which MONAI imports too, loads all of TensorFlow (seconds, and lines on the terminal) wherever that
# is installed, only to write files. A module of this name is its own switch for doing without.
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))

_HOMES = {
    "Case": "dataset",
    "Dataset": "dataset",
    "FitResult": "loop",
    "Fingerprint": "fingerprint",
    "Plan": "plan",
    "Split": "dataset",
    "draw_plan": "drawing",
    "fit": "loop",
    "read_dataset": "dataset",
    "take_fingerprint": "fingerprint",
}
__all__ = [
    "Case",
    "Dataset",
    "Fingerprint",
    "FitResult",
    "Plan",
    "Split",
    "draw_plan",
    "fit",
    "read_dataset",
    "take_fingerprint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"resvox.training.{_HOMES[name]}"), name)
