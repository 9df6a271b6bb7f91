"""From labelled scans to a trained network: dataset, fingerprint, plan, loop.

Reading, fingerprints and plans need no torch; `fit` loads it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resvox.lazy import lazy_names
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "resvox.datasets": (
            "Case",
            "ClassificationDataset",
            "Dataset",
            "RegressionDataset",
            "Split",
            "read_classification",
            "read_dataset",
            "read_regression",
        ),
        ".classification.plan": ("ClassificationPlan",),
        ".loop": ("FitResult", "fit"),
        ".plans.fingerprint": ("Fingerprint",),
        ".segmentation.plan": ("Plan",),
        ".regression.plan": ("RegressionPlan",),
        ".classification.planning": ("draw_classification_plan",),
        ".segmentation.planning": ("draw_plan",),
        ".regression.planning": ("draw_regression_plan",),
        ".plans.reading": ("load_plan",),
        ".classification.fingerprint": ("take_classification_facts",),
        ".segmentation.fingerprint": ("take_fingerprint",),
        ".regression.fingerprint": ("take_regression_facts",),
    },
)
