"""Which models and scans are computed on the device from the windows to the labels, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resvox.prediction.bundle.outputs import decision_of, labels_first
from resvox.prediction.predictor import mirror_axes_of, window_arguments

if TYPE_CHECKING:
    from resvox.cards import SegmentationCard
    from resvox.inference import Engine, LinearHead, WindowCount
    from resvox.inference.device.labelling import DeviceLabels
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.predictor import Progress
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

# Types of devices whose scans stay there. The same code runs on a processor, where it has no use but in tests.
DEVICES = ("cuda",)


@dataclass
class ModelOnDevice:
    """A model whose scans stay on the device.

    ``is_off``: memory ran out with single windows, so that scans are blended in main memory from now on.
    """

    maker: DeviceLabels
    card: SegmentationCard
    options: PredictOptions
    is_off: bool = False

    def labels(
        self, prepared: Prepared, *, count: WindowCount, progress: Progress | None
    ) -> tuple[Volume, float] | None:
        """The label map of a scan and the seconds until its windows were blended; None where it cannot stay there."""
        from resvox.inference import can_restore
        from resvox.inference.boxes import is_linear

        if self.is_off or prepared.grid.spatial_dims != 3 or not (can_restore(prepared) and is_linear(prepared)):
            return None
        windows, start = self.card.inference, time.perf_counter()
        made = self.maker.labels(
            prepared,
            **window_arguments(windows, self.options),
            roi_size=windows.roi_size,
            mirror_axes=mirror_axes_of(windows, self.options),
            count=count,
            progress=progress,
        )
        self.is_off = made is None
        return None if made is None else (made, time.perf_counter() - start - self.maker.restoring_seconds)


def model_on_device(
    engine: Engine,
    card: SegmentationCard,
    options: PredictOptions,
    values: Sequence[int],
    head: LinearHead | None,
    *,
    batches: bool = True,
    notify: Callable[[str], object] | None,
) -> ModelOnDevice | None:
    """What computes a model's scans on the device; None where outputs are needed in main memory.

    None for a device other than CUDA, for 2-D networks, and where more is wanted than labels of interpolated logits:
    probabilities (also when only a single call asks for them), masks of regions, uncertainty, a speed other than full,
    exact results, or a model that interpolates labels or probabilities.

    Args:
        values: the label of every class; of a single class, of its absence and its presence.
        head: the last layer, where outputs are the features before it.
        batches: the network takes several windows in one pass.
        notify: called with a line of text where memory runs out.
    """
    from resvox.inference.engines.protocol import OnDevice

    needs_more = options.probabilities or options.region_masks or options.uncertainty or options.exact
    own_way = options.resample == "labels" or labels_first(card) or decision_of(card) is not None
    place = str(engine.device).split(":")[0]
    if place not in DEVICES or card.spatial_dims != 3 or needs_more or own_way or options.speed != "full":
        return None
    if not isinstance(engine, OnDevice):
        return None
    from resvox.inference.device.labelling import DeviceLabels
    from resvox.inference.device.restoring import LabelRule
    from resvox.inference.engines.devices import warn

    regions = card.class_order is not None
    rule = LabelRule(values=tuple(card.class_order or values), regions=regions, head=head)
    maker = DeviceLabels(engine, rule, batch=None if batches else 1, notify=notify or warn)
    return ModelOnDevice(maker, card, options)
