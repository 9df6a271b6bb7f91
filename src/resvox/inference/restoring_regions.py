"""From logits of regions on the network's grid to labels on the scan's, slice by slice.

A region is where its interpolated logit is above 0; regions write their values in order, later ones over earlier ones.
An interpolated logit cannot leave the range of its neighbours, so in most boxes the extremes decide for all voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.boxes import Array, BoxWalk, Span, Targets
from resvox.inference.decisions import Decision
from resvox.inference.reduction import region_probabilities_from_logits
from resvox.inference.restoring import MARGIN, Softening
from resvox.inference.slice_sums import FinishedSlice
from resvox.inference.uncertainty.doubt import DoubtMaps
from resvox.preprocessing import Prepared
from resvox.volumes import Volume


class RegionRestorer:
    """Fills a label map on the scan's grid from finished slices of regions.

    Args:
        prepared: the preprocessed scan, with its steps.
        class_order: the value of each region.
        soften_last: probabilities are those of interpolated logits, instead of interpolated probabilities.
        decision: what is interpolated, and compared with 0; None interpolates logits.
        probabilities: also restore (regions, *source) float32; this needs memory for all of them.
        masks: also restore one mask per region, (regions, *source) uint8.
        threads: number of threads that restore boxes.
        temperature: by which logits are divided for probabilities.
        doubt: takes each box, and what it has beside logits.

    Raises:
        InferenceError: steps that cannot be restored slice by slice, see `can_restore`; another number of outputs.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        class_order: Sequence[int],
        soften_last: bool = False,
        decision: Decision | None = None,
        probabilities: bool = False,
        masks: bool = False,
        threads: int = 1,
        temperature: float = 1.0,
        doubt: DoubtMaps | None = None,
    ) -> None:
        self.walk, self.decision = BoxWalk(prepared, threads=threads), decision
        self.doubt = doubt
        self.prepared, self.grid, self.class_order = prepared, prepared.source, tuple(class_order)
        self.softened = Softening(
            self.walk, region_probabilities_from_logits, decision=decision, temperature=temperature, last=soften_last
        )
        size = (len(self.class_order), *self.grid.shape)
        self.labels = np.zeros(self.grid.shape, np.min_scalar_type(max(self.class_order)))
        self.masks = np.zeros(size, np.uint8) if masks else None
        self.scores = np.zeros(size, np.float32) if probabilities else None

    @property
    def seconds(self) -> float:
        """Time of restoring, without waiting for slices."""
        return self.walk.seconds

    def restore(self, slices: Iterable[FinishedSlice]) -> tuple[Volume, Volume | None, Volume | None]:
        """The label map (*source), and probabilities and masks if they are wanted."""
        self.walk.run(slices if self.doubt is None else self.doubt.counted(slices), self._restore_box)
        for each in (
            self.labels,
            *(() if self.masks is None else self.masks),
            *(() if self.scores is None else self.scores),
        ):
            self.prepared.clear_outside(each)
        scores = None if self.scores is None else Volume.on_grid(self.scores, self.grid)
        masks = None if self.masks is None else Volume.on_grid(self.masks, self.grid)
        return Volume.on_grid(self.labels, self.grid), scores, masks

    def _restore_box(self, box: Array, span: Span, targets: Targets) -> None:
        if self.doubt is not None:
            box = self.doubt.take(self.walk, box, span, targets)
        if len(box) != len(self.class_order):
            raise InferenceError(
                f"a network with {len(box)} outputs", expected=f"one per region, {len(self.class_order)}"
            )
        if self.decision is not None:
            box = self.decision.values(box)
        labels = self.walk.inner(self.labels)
        for place, value in enumerate(self.class_order):
            inside = self._inside(box[place : place + 1], span, targets)
            if inside is not False:
                np.copyto(labels[targets], np.array(value, labels.dtype), where=inside)
                if self.masks is not None:
                    self.walk.inner(self.masks[place])[targets] = inside
        if self.scores is not None:
            for scores, own in zip(self.scores, self.softened(box, span, targets), strict=True):
                self.walk.inner(scores)[targets] = own

    def _inside(self, logit: Array, span: Span, targets: Targets) -> Array | bool:
        """Whether the voxels of a box are in a region, of whose logits (1, *box) these are."""
        low, high = float(logit.min()), float(logit.max())
        if high <= 0:
            return False
        if low > MARGIN * high:
            return True
        inside: Array = self.walk.interpolated(logit, span, targets)[0] > 0
        return inside
