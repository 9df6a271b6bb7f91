"""A preprocessed case, with the inverse of its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.crop import Crop
from resvox.preprocessing.steps import Array, Kind, Step
from resvox.volumes import Grid, Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """The result of `Preprocessing.apply`.

    Args:
        array: (channels, *spatial) float32.
        grid: the grid of `array`.
        source: the grid of the scan as it was read; restored volumes are on exactly this grid.
        steps: the geometric steps that were applied, in order.
    """

    array: Array
    grid: Grid
    source: Grid
    steps: tuple[Step, ...]

    def labels(self, volume: Volume) -> Array:
        """A label map on the source grid brought to the prepared grid.

        Args:
            volume: (*source.shape) whole numbers.

        Returns:
            (*grid.shape), same type.

        Raises:
            VolumeError: a label map on another grid, with several channels, or with fractional values.
        """
        if not volume.grid.matches(self.source):
            raise VolumeError(
                f"a label map on {volume.grid.shape} voxels of {volume.spacing_mm} mm",
                expected=f"the image's grid: {self.source.shape} voxels of {self.source.spacing_mm} mm",
                fix="resample it onto its image",
            )
        array = self._one_channel(volume.array, self.source)
        for step in self.steps:
            array = step.forward(array, "labels")
        return np.ascontiguousarray(array[0])

    def restore_labels(self, array: Array) -> Volume:
        """A label map (*grid.shape) on the prepared grid brought back to exactly the source grid.

        Voxels outside the crop are background, 0.
        """
        return self._restored(self._one_channel(np.asarray(array), self.grid), "labels", drop_channels=True)

    def restore_scores(self, array: Array) -> Volume:
        """Scores (classes, *grid.shape) interpolated linearly on the source grid: (classes, *source.shape) float32.

        Outside the crop, class 0 has its highest score of the case and the other classes their lowest.
        """
        scores = np.asarray(array, np.float32)
        if scores.ndim != self.grid.spatial_dims + 1 or scores.shape[1:] != self.grid.shape:
            raise VolumeError(f"scores of shape {scores.shape}", expected=f"(classes, *{self.grid.shape})")
        return self._restored(scores, "scores", drop_channels=False)

    @property
    def mask(self) -> Volume | None:
        """The mask of a `Crop` on the source grid, uint8; None without such a crop."""
        if not any(isinstance(step, Crop) and step.mask is not None for step in self.steps):
            return None
        ones = np.ones(self.source.shape, np.uint8)
        self.clear_outside(ones)
        return Volume.on_grid(ones, self.source)

    def clear_outside(self, array: Array) -> None:
        """Set values (*source.shape) to 0, in place, where the mask of a `Crop` is false.

        For results that are written on the scan's grid without the inverse of the steps.
        """
        for place, crop in enumerate(self.steps):
            if isinstance(crop, Crop) and crop.mask is not None:
                view = array[np.newaxis]
                for step in self.steps[:place]:  # reorienting, which gives views
                    view = step.forward(view, "labels")
                view[0][~crop.mask] = 0

    def _restored(self, array: Array, kind: Kind, *, drop_channels: bool) -> Volume:
        for step in reversed(self.steps):
            array = step.inverse(array, kind)
        return Volume.on_grid(np.ascontiguousarray(array[0] if drop_channels else array), self.source)

    def _one_channel(self, labels: Array, grid: Grid) -> Array:
        if labels.shape != grid.shape or labels.dtype.kind not in "biu":
            raise VolumeError(
                f"a label map of shape {labels.shape} and type {labels.dtype}",
                expected=f"whole numbers of shape {grid.shape}",
            )
        return labels[np.newaxis]
