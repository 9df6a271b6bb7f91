"""The speed control of a segmentation model: its labels, its margins, and the name of its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from resvox.cards import SegmentationCard
from resvox.digests import digest_of
from resvox.inference import TopTwo, labels_from_logits, labels_from_regions, top_two_classes, top_two_of_regions
from resvox.prediction.bundle.outputs import decision_of
from resvox.prediction.options import DEFAULTS
from resvox.prediction.speed.control import SpeedControl
from resvox.prediction.speed.verdicts import verdict_name

if TYPE_CHECKING:
    from resvox.inference import LinearHead
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.options import PredictOptions

Array = np.ndarray[Any, Any]
# Options that do not change what a verdict is about; all others are part of its name.
APART = ("inputs", "out", "model", "series", "processes", "format", "dicom", "sidecar", "report", "overwrite", "suffix")


def speed_control(
    options: PredictOptions,
    files: Sequence[ModelFile],
    head: LinearHead | None,
    *,
    notify: Callable[[str], object] | None,
) -> SpeedControl:
    """The control for a model of one or several files.

    Args:
        head: the last layer, where outputs are the features before it.
        notify: called with a line where the speed is given up.
    """
    card = cast(SegmentationCard, files[0].card)
    order, decision = card.class_order, decision_of(card)

    def labels_of(outputs: Array) -> Array:
        if order is not None:
            return labels_from_regions(outputs if decision is None else decision.values(outputs), order)
        return labels_from_logits(outputs if head is None else head(outputs))

    def top_two(outputs: Array) -> TopTwo:
        if order is not None:
            return top_two_of_regions(outputs, labels_of)
        return top_two_classes(outputs if head is None else head(outputs))

    is_full = options.speed == "full"  # then there is no verdict, and the files need not be read
    plain = replace(options, **{name: getattr(DEFAULTS, name) for name in APART})
    name = "" if is_full else verdict_name([digest_of(each.path) for each in files], plain.changed())
    return SpeedControl(options.speed, labels_of=labels_of, top_two=top_two, name=name, notify=notify)
