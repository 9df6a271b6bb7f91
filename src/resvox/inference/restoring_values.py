"""Values (a dense regression's outputs) from the network's grid to the scan's, slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from resvox.inference.boxes import Array, BoxWalk, Span, Targets
from resvox.inference.slice_sums import FinishedSlice
from resvox.preprocessing import Prepared
from resvox.volumes import Volume


class ValueRestorer:
    """Fills volumes of values on the scan's grid from finished slices, by linear interpolation.

    The same values, to the rounding of float32, as `Prepared.restore_scores` of all slices at once.

    Args:
        prepared: the preprocessed scan, with its steps.
        std: standard deviation of each value in training.
        mean: mean of each value in training; a restored value is output * std + mean.
        threads: number of threads that restore boxes.

    Raises:
        InferenceError: steps that cannot be restored slice by slice, see `can_restore`.
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
        """Time of restoring, without waiting for slices."""
        return self.walk.seconds

    def restore(self, slices: Iterable[FinishedSlice]) -> Volume:
        """(values, *source) float32."""
        self.walk.run(slices, self._restore_box)
        return Volume.on_grid(self.walk.whole(self.values), self.prepared.source)

    def _restore_box(self, box: Array, span: Span, targets: Targets) -> None:
        # On the network's grid, which mostly has fewer voxels.
        self.values[(slice(None), *targets)] = self.walk.interpolated(box * self.std + self.mean, span, targets)
