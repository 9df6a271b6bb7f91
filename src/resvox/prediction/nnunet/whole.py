"""From the logits of a whole scan to its label map, as nnU-Net: for its bits, and where logits are not linear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.inference import (
    EnsembleEngine,
    FinishedSlice,
    labels_from_logits,
    labels_from_regions,
    probabilities_from_logits,
    region_probabilities_from_logits,
)
from resvox.inference.half_sums import half_sliding_window
from resvox.prediction.predictor import by_slices, mirror_axes_of, overlap_of
from resvox.preprocessing import Crop
from resvox.preprocessing.nnunet import Resize
from resvox.volumes import Volume

if TYPE_CHECKING:
    from resvox.cards import SegmentationCard
    from resvox.inference import Engine, WindowCount
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.predictor import Progress
    from resvox.preprocessing import Prepared

Array = np.ndarray
Made = tuple[Volume, "Volume | None", "Volume | None"]  # label map, probabilities, masks of regions


def exact_logits(
    prepared: Prepared,
    engine: Engine,
    card: SegmentationCard,
    options: PredictOptions,
    *,
    count: WindowCount,
    progress: Progress | None,
) -> Array:
    """(classes, *spatial) float16 on the network's grid, with nnU-Net's own bits."""
    engines = engine.engines if isinstance(engine, EnsembleEngine) else (engine,)
    windows = card.inference
    roi_size, mirror_axes = windows.roi_size, mirror_axes_of(windows, options)
    predictors: Sequence[Callable[[Array], Array]] = engines
    if len(roi_size) < prepared.grid.spatial_dims:
        made = [by_slices(roi_size, mirror_axes, each) for each in engines]
        roi_size, mirror_axes = made[0][:2]
        predictors = [each[2] for each in made]

    def report(done: int, total: int) -> None:
        count.windows, count.computed = total, done
        if progress is not None:
            progress(done, total)

    return half_sliding_window(
        prepared.array,
        predictors,
        roi_size=roi_size,
        overlap=overlap_of(windows, options),
        mirror_axes=mirror_axes,
        progress=report,
    )


def whole_logits(prepared: Prepared, slices: Iterable[FinishedSlice]) -> Array:
    """(classes, *spatial) float32 of finished slices."""
    logits: Array | None = None
    for each in slices:
        if logits is None:
            logits = np.empty((len(each.logits), *prepared.grid.shape), np.float32)
        logits[:, each.index, each.start : each.start + each.logits.shape[1]] = each.logits
    assert logits is not None  # a scan has at least one slice
    return logits


def finish(prepared: Prepared, logits: Array, card: SegmentationCard, *, probabilities: bool, masks: bool) -> Made:
    """The label map, and probabilities and masks of regions if they are wanted, on the scan's grid.

    Args:
        prepared: the scan, whose last step is a `Resize`.
        logits: (classes, *spatial) on the network's grid.
    """
    resize = prepared.steps[-1]
    assert isinstance(resize, Resize)
    logits = resize.inverse(logits, "scores")
    if card.class_order is not None:
        # in this order of operations a logit just above 0 has a probability of exactly 0.5, which is no region
        likely = region_probabilities_from_logits(logits)
        inside = likely > np.float32(0.5)
        labels = labels_from_regions(np.where(inside, np.int8(1), np.int8(-1)), card.class_order)
        regions = _whole(prepared, inside.astype(np.uint8)) if masks else None
    else:
        values = np.asarray(list(card.labels_by_class.values()))
        labels, regions = values.astype(np.min_scalar_type(int(values.max())))[labels_from_logits(logits)], None
        likely = probabilities_from_logits(logits.astype(np.float32)) if probabilities else logits
    label_map = _whole(prepared, labels[np.newaxis])
    return (
        label_map.with_array(label_map.array[0]),
        _whole(prepared, likely, outside_of(card)) if probabilities else None,
        regions,
    )


def _whole(prepared: Prepared, array: Array, outside: Sequence[float] | None = None) -> Volume:
    """(channels, *spatial) before resizing, brought to the scan's grid; each channel has its value outside, or 0."""
    for step in reversed(prepared.steps[:-1]):
        if isinstance(step, Crop):
            whole = np.zeros((len(array), *step.source.shape), array.dtype)
            if outside is not None:
                whole[...] = np.asarray(outside, array.dtype).reshape(-1, *(1 for _ in step.source.shape))
            whole[step.box] = array
            array = whole
        else:
            array = step.inverse(array, "labels")
    return Volume.on_grid(np.ascontiguousarray(array), prepared.source)


def outside_of(card: SegmentationCard) -> tuple[float, ...]:
    """Probabilities where the scan was cropped: background, or no region."""
    is_class = card.class_order is None
    return tuple(float(is_class and place == 0) for place in range(len(card.output_names)))
