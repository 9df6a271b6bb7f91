"""From labelled scans to a trained network: dataset, fingerprint, plan, loop.

Reading, fingerprints and plans need no torch; `fit` loads it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resvox.machine import block_tensorflow_import
from resvox.training.plans import sides

if TYPE_CHECKING:
    from resvox.datasets import (
        Case,
        ClassificationDataset,
        Dataset,
        RegressionDataset,
        Split,
        read_classification,
        read_dataset,
        read_regression,
    )
    from resvox.training.classification.fingerprint import take_classification_facts
    from resvox.training.classification.plan import ClassificationPlan
    from resvox.training.classification.planning import draw_classification_plan
    from resvox.training.loop import FitResult, fit
    from resvox.training.plans.fingerprint import Fingerprint
    from resvox.training.plans.reading import load_plan
    from resvox.training.regression.fingerprint import take_regression_facts
    from resvox.training.regression.plan import RegressionPlan
    from resvox.training.regression.planning import draw_regression_plan
    from resvox.training.segmentation.fingerprint import take_fingerprint
    from resvox.training.segmentation.plan import Plan
    from resvox.training.segmentation.planning import draw_plan

block_tensorflow_import()

# The rules for mirroring can be imported from their former place too.
sys.modules.setdefault("resvox.training.drawing", sides)

_HOMES = {
    "Case": "resvox.datasets",
    "ClassificationDataset": "resvox.datasets",
    "ClassificationPlan": "resvox.training.classification.plan",
    "Dataset": "resvox.datasets",
    "FitResult": "resvox.training.loop",
    "Fingerprint": "resvox.training.plans.fingerprint",
    "Plan": "resvox.training.segmentation.plan",
    "RegressionDataset": "resvox.datasets",
    "RegressionPlan": "resvox.training.regression.plan",
    "Split": "resvox.datasets",
    "draw_classification_plan": "resvox.training.classification.planning",
    "draw_plan": "resvox.training.segmentation.planning",
    "draw_regression_plan": "resvox.training.regression.planning",
    "fit": "resvox.training.loop",
    "load_plan": "resvox.training.plans.reading",
    "read_classification": "resvox.datasets",
    "read_dataset": "resvox.datasets",
    "read_regression": "resvox.datasets",
    "take_classification_facts": "resvox.training.classification.fingerprint",
    "take_fingerprint": "resvox.training.segmentation.fingerprint",
    "take_regression_facts": "resvox.training.regression.fingerprint",
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
    return getattr(import_module(_HOMES[name]), name)
