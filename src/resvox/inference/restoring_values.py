"""Values (a dense regression's outputs) from the network's grid to the scan's, slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from resvox.inference.boxes import Array, BoxWalk, Span, Targets
from resvox.inference.streaming import FinishedSlice
from resvox.preprocessing import Prepared
from resvox.volumes import Volume


class ValueRestorer:
    """Takes finished slices and fills volumes of values on the scan's grid, by linear interpolation.

    The same values, to the rounding of float32, as `Prepared.restore_scores` of all slices at once.

    Args:
        prepared: how the scan became what the network saw.
        std, mean: per value; outputs times ``std`` plus ``mean`` are written.
        threads: that restore boxes.

    Raises:
        InferenceError: steps that are not known to keep the axes apart (`can_restore` tells).
    """

    def __init__(self, prepared: Prepared, *, std: Sequence[float], mean: Sequence[float], threads: int = 1) -> None:
        self.walk = BoxWalk(prepared, threads=threads)
        self.prepared = prepared
        column = (-1, *[1] * prepared.grid.spatial_dims)
        self.std, self.mean = (np.asarray(each, np.float32).reshape(column) for each in (std, mean))
        shape = self.walk.inner(np.broadcast_to(np.uint8(0), prepared.source.shape)).shape
        self.values: Array = np.empty((len(self.std), *shape), np.float32)

    @property
    def seconds(self) -> float:
        """Spent in restoring; the waiting for slices is not counted."""
        return self.walk.seconds

    def restore(self, slices: Iterable[FinishedSlice]) -> Volume:
        """(values, *source) float32."""
        self.walk.run(slices, self._restore_box)
        return Volume.on_grid(self.walk.whole(self.values), self.prepared.source)

    def _restore_box(self, box: Array, span: Span, targets: Targets) -> None:
        # On the network's grid, where there are mostly fewer voxels.
        self.values[(slice(None), *targets)] = self.walk.interpolated(box * self.std + self.mean, span, targets)
