"""Inference: the outputs of a network for volumes of any size, window by window.

Names are imported when they are first used; torch only with :class:`TorchEngine` and `make_engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names

if TYPE_CHECKING:
    from resvox.inference.comparison import Difference, LabelComparison
    from resvox.inference.engines import Engine
    from resvox.inference.engines.choosing import make_engine
    from resvox.inference.engines.torch_engine import TorchEngine
    from resvox.inference.ensemble import EnsembleEngine
    from resvox.inference.heads import LinearHead
    from resvox.inference.passes.label_changes import Allowance, ChangeRates, Counts, TopTwo
    from resvox.inference.passes.two_pass import Measured, TwoPasses, top_two_classes, top_two_of_regions
    from resvox.inference.reduction import (
        labels_from_logits,
        labels_from_regions,
        probabilities_from_logits,
        region_probabilities_from_logits,
    )
    from resvox.inference.restoring import Restorer, can_restore, restore_labels_first
    from resvox.inference.restoring_regions import RegionRestorer
    from resvox.inference.restoring_values import ValueRestorer
    from resvox.inference.slice_sums import FinishedSlice
    from resvox.inference.sliding_window import sliding_window_inference
    from resvox.inference.streaming import WindowCount, stream_sliding_window

__all__ = [
    "Allowance",
    "ChangeRates",
    "Counts",
    "Difference",
    "Engine",
    "EnsembleEngine",
    "FinishedSlice",
    "LabelComparison",
    "LinearHead",
    "Measured",
    "RegionRestorer",
    "Restorer",
    "TopTwo",
    "TorchEngine",
    "TwoPasses",
    "ValueRestorer",
    "WindowCount",
    "can_restore",
    "labels_from_logits",
    "labels_from_regions",
    "make_engine",
    "probabilities_from_logits",
    "region_probabilities_from_logits",
    "restore_labels_first",
    "sliding_window_inference",
    "stream_sliding_window",
    "top_two_classes",
    "top_two_of_regions",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".comparison": ("Difference", "LabelComparison"),
        ".engines.protocol": ("Engine",),
        ".engines.choosing": ("make_engine",),
        ".engines.torch_engine": ("TorchEngine",),
        ".ensemble": ("EnsembleEngine",),
        ".heads": ("LinearHead",),
        ".passes.label_changes": ("Allowance", "ChangeRates", "Counts", "TopTwo"),
        ".reduction": (
            "labels_from_logits",
            "labels_from_regions",
            "probabilities_from_logits",
            "region_probabilities_from_logits",
        ),
        ".restoring": ("Restorer", "can_restore", "restore_labels_first"),
        ".restoring_regions": ("RegionRestorer",),
        ".restoring_values": ("ValueRestorer",),
        ".sliding_window": ("sliding_window_inference",),
        ".slice_sums": ("FinishedSlice",),
        ".streaming": ("WindowCount", "stream_sliding_window"),
        ".passes.two_pass": ("Measured", "TwoPasses", "top_two_classes", "top_two_of_regions"),
    },
)
