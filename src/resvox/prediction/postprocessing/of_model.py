"""The post-processing of a model: the rules of its card, or nnU-Net's largest components where they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.prediction.nnunet.stages import keep_largest
from resvox.prediction.postprocessing.rules import apply_rules

if TYPE_CHECKING:
    from resvox.cards import SegmentationCard
    from resvox.prediction.options import PredictOptions
    from resvox.volumes import Volume


def is_postprocessed(card: SegmentationCard, options: PredictOptions) -> bool:
    """Whether label maps are changed: with rules unless they are switched off, without them only if that is asked."""
    return bool(options.postprocess) or (options.postprocess is None and bool(card.postprocessing))


def postprocessed(label_map: Volume, card: SegmentationCard, options: PredictOptions) -> Volume:
    """The label map as it is written."""
    if not is_postprocessed(card, options):
        return label_map
    if card.largest:
        label_map = label_map.with_array(keep_largest(label_map.array, card.largest))
    return apply_rules(label_map, card.postprocessing or ())
