"""Sums of the slices that windows have not left yet, on a device; the same additions as `SliceSums`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from resvox.errors import InferenceError
from resvox.inference.sliding_window import WindowedScan


@dataclass(frozen=True, kw_only=True)
class FinishedSlab:
    """Blended outputs of consecutive slices that no later window changes.

    ``index``: position of the first slice along the first spatial axis. ``row``: first row of the tile along the
    second axis. ``outputs``: (outputs, slices, rows, columns) float32, without the padding of windows.
    """

    index: int
    row: int
    outputs: torch.Tensor


class DeviceSums:
    """Sums over one window's depth of slices of a tile, which move along the first axis.

    Args:
        scan: a volume of 3 axes with its windows.
        tile: start and stop of the tile along the second axis, in voxels without padding.
        weights: of a window (*roi), on the device.
        independent: outputs are decided one by one, so that a voxel without a window has none of them.
        all_seen: every voxel has a window.
    """

    def __init__(
        self,
        scan: WindowedScan,
        tile: tuple[int, int],
        outputs: int,
        weights: torch.Tensor,
        *,
        independent: bool,
        all_seen: bool,
    ) -> None:
        self.scan, self.row, self.window_weights = scan, tile[0], weights
        self.independent, self.all_seen = independent, all_seen
        self.low, self.high = (edge + scan.pads[1][0] for edge in tile)
        shape = (scan.roi[0], self.high - self.low, scan.padded.shape[3])
        self.sums = torch.zeros((outputs, *shape), device=weights.device)
        self.weights = torch.zeros(shape, device=weights.device)
        self.next = 0  # the slice, in padded voxels, that is the first of the sums

    def add(self, start: tuple[int, ...], outputs: torch.Tensor) -> None:
        """Add the outputs (outputs, *roi) of a window that begins in the first slice of the sums or after it."""
        if len(outputs) != len(self.sums):
            raise InferenceError(
                f"a window with {len(outputs)} classes after windows with {len(self.sums)}",
                expected="the same number of classes for every window",
            )
        rows = slice(max(self.low - start[1], 0), min(self.high - start[1], self.scan.roi[1]))
        place = (
            slice(start[0] - self.next, None),
            slice(start[1] + rows.start - self.low, start[1] + rows.stop - self.low),
            slice(start[2], start[2] + self.scan.roi[2]),
        )
        weights = self.window_weights[:, rows]
        # product, then sum: an operation that rounds once would give other bits
        self.sums[(slice(None), *place)] += outputs[:, :, rows] * weights
        self.weights[place] += weights

    def finished_before(self, stop: int) -> Iterator[FinishedSlab]:
        """Yield and release the slices before ``stop``, in padded voxels: means."""
        before, after = self.scan.pads[0]
        end = self.scan.padded.shape[1] - after
        left, right = self.scan.pads[2]
        while self.next < stop:
            count = min(stop - self.next, self.scan.roi[0])
            first, last = max(before - self.next, 0), min(end - self.next, count)
            if first < last:
                means = self._means(slice(first, last))[..., left : self.scan.padded.shape[3] - right]
                yield FinishedSlab(index=self.next + first - before, row=self.row, outputs=means)
            self._move(count)

    def _means(self, slices: slice) -> torch.Tensor:
        sums, weights = self.sums[:, slices], self.weights[slices]
        if self.all_seen:
            return sums / weights
        unseen = weights == 0
        means = sums / torch.where(unseen, torch.ones_like(weights), weights)
        if self.independent or len(means) == 1:
            return means.masked_fill_(unseen, -1.0)
        means[0].masked_fill_(unseen, 1.0)
        return means

    def _move(self, count: int) -> None:
        """The sums begin ``count`` slices later."""
        self.next += count
        for array in (self.sums, self.weights):
            depth = array.shape[-3]
            kept = array[..., count:, :, :].clone()
            array[..., : depth - count, :, :] = kept
            array[..., depth - count :, :, :] = 0
