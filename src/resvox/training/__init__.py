"""From labelled scans to a trained network: dataset, fingerprint, plan, loop.

Reading, looking and drawing need no torch; `fit` loads it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.training.classification.dataset import ClassificationDataset, read_classification
    from resvox.training.classification.drawing import draw_classification_plan
    from resvox.training.classification.facts import take_classification_facts
    from resvox.training.classification.plan import ClassificationPlan
    from resvox.training.dataset import Case, Dataset, Split, read_dataset
    from resvox.training.drawing import draw_plan
    from resvox.training.fingerprint import Fingerprint, take_fingerprint
    from resvox.training.loop import FitResult, fit
    from resvox.training.plan import Plan, load_plan
    from resvox.training.regression.dataset import RegressionDataset, read_regression
    from resvox.training.regression.drawing import draw_regression_plan
    from resvox.training.regression.facts import take_regression_facts
    from resvox.training.regression.plan import RegressionPlan

# TensorBoard, which MONAI imports too, loads all of TensorFlow (seconds, and lines on the terminal) wherever that
# is installed, only to write files. A module of this name is its own switch for doing without.
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))

_HOMES = {
    "Case": "dataset",
    "ClassificationDataset": "classification.dataset",
    "ClassificationPlan": "classification.plan",
    "Dataset": "dataset",
    "FitResult": "loop",
    "Fingerprint": "fingerprint",
    "Plan": "plan",
    "RegressionDataset": "regression.dataset",
    "RegressionPlan": "regression.plan",
    "Split": "dataset",
    "draw_classification_plan": "classification.drawing",
    "draw_plan": "drawing",
    "draw_regression_plan": "regression.drawing",
    "fit": "loop",
    "load_plan": "plan",
    "read_classification": "classification.dataset",
    "read_dataset": "dataset",
    "read_regression": "regression.dataset",
    "take_classification_facts": "classification.facts",
    "take_fingerprint": "fingerprint",
    "take_regression_facts": "regression.facts",
}
__all__ = [
    "Case",
    "ClassificationDataset",
    "ClassificationPlan",
    "Dataset",
    "Fingerprint",
    "FitResult",
    "Plan",
    "RegressionDataset",
    "RegressionPlan",
    "Split",
    "draw_classification_plan",
    "draw_plan",
    "draw_regression_plan",
    "fit",
    "load_plan",
    "read_classification",
    "read_dataset",
    "read_regression",
    "take_classification_facts",
    "take_fingerprint",
    "take_regression_facts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"resvox.training.{_HOMES[name]}"), name)
