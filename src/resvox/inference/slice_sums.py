"""Sums of the slices that windows have not left yet, and the slices that none of them will change any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.sliding_window import WindowedScan

Share = Callable[[Callable[[int], None], int], None]


@dataclass(frozen=True, kw_only=True)
class FinishedSlice:
    """Blended logits of one slice that no later window changes.

    ``index``: position along the first spatial axis. ``start``: first row of the tile along the second axis (0 for
    2D). ``logits``: (classes, *rest), float32, where rest are the remaining spatial axes, cut to the tile along the
    second axis.
    """

    index: int
    start: int
    logits: np.ndarray


class SliceSums:
    """Sums of unfinished slices, each an array (classes, *rest of the tile) of its own."""

    def __init__(
        self, scan: WindowedScan, tile: tuple[int, int], classes: int, share: Share, *, independent: bool
    ) -> None:
        self.independent = independent
        self.scan, self.classes, self.share = scan, classes, share
        self.start = tile[0]
        # In padded voxels: the tile along the second axis, everything along the third.
        pads = scan.pads
        if len(scan.roi) < 3:
            self.low, self.high = 0, scan.padded.shape[2]
        else:
            self.low, self.high = tile[0] + pads[1][0], tile[1] + pads[1][0]
        self.rest = (self.high - self.low, *scan.padded.shape[3:])
        self.sums: dict[int, np.ndarray] = {}
        self.weights: dict[int, np.ndarray] = {}
        self.next = 0

    def rows(self, start: tuple[int, ...], logits: np.ndarray) -> np.ndarray:
        """A view of the rows of a window (classes, *roi) that are in the tile."""
        if logits.shape[0] != self.classes:
            raise InferenceError(
                f"a window with {logits.shape[0]} classes after windows with {self.classes}",
                expected="the same number of classes for every window",
            )
        return logits[:, :, self.span(start)]

    def span(self, start: tuple[int, ...]) -> slice:
        """The rows of a window, along the second axis, that are in the tile."""
        return slice(max(self.low - start[1], 0), min(self.high - start[1], self.scan.roi[1]))

    def place(self, start: tuple[int, ...]) -> tuple[slice, ...]:
        """Where these rows are in the arrays of a slice."""
        rows = self.span(start)
        place: tuple[slice, ...] = (slice(start[1] + rows.start - self.low, start[1] + rows.stop - self.low),)
        if len(start) == 3:
            place += (slice(start[2], start[2] + self.scan.roi[2]),)
        return place

    def add(self, start: tuple[int, ...], rows: np.ndarray) -> None:
        """Add the `rows` of a window with its weights; slices are allocated when they are first used."""
        span, place = self.span(start), self.place(start)
        for offset in range(self.scan.roi[0]):
            if start[0] + offset not in self.sums:
                self.sums[start[0] + offset] = np.zeros((self.classes, *self.rest), np.float32)
                self.weights[start[0] + offset] = np.zeros(self.rest, np.float32)

        def add_slice(offset: int) -> None:
            weights = self.scan.weights[offset, span]
            self.sums[start[0] + offset][(slice(None), *place)] += rows[:, offset] * weights
            self.weights[start[0] + offset][place] += weights

        self.share(add_slice, self.scan.roi[0])

    def finished_before(self, stop: int) -> Iterator[FinishedSlice]:
        """Yield and release the slices before ``stop`` along the padded first axis: means, without padding."""
        before, after = self.scan.pads[0]
        end = self.scan.padded.shape[1] - after
        while self.next < stop:
            index, self.next = self.next, self.next + 1
            sums, weights = self.sums.pop(index, None), self.weights.pop(index, None)
            if before <= index < end:
                logits = self._blank() if sums is None or weights is None else self._mean(sums, weights)
                yield FinishedSlice(index=index - before, start=self.start, logits=self.cropped(logits))

    def _blank(self) -> np.ndarray:
        """A slice that no window covers: background."""
        return self._background(np.zeros((self.classes, *self.rest), np.float32), np.ones(self.rest, np.bool_))

    def _mean(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        unseen = weights == 0
        if unseen.any():  # some windows were skipped
            sums = self._background(sums, unseen)
            weights = np.where(unseen, np.float32(1), weights)
        sums /= weights
        return sums

    def _background(self, sums: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Set class 0 where no window was added; a single class and regions get logits below their threshold."""
        if self.independent or len(sums) == 1:
            np.copyto(sums, np.float32(-1), where=where)
        else:
            np.copyto(sums[0], np.float32(1), where=where)
        return sums

    def cropped(self, logits: np.ndarray) -> np.ndarray:
        """An array of a slice, (classes, *rest), without padding."""
        pads, sides = self.scan.pads[1:], logits.shape[1:]
        if len(pads) == 2:  # arrays of a tile have no padding along the second axis
            (before, after), side = pads[1], sides[1]
            return logits[:, :, before : side - after]
        (before, after), side = pads[0], sides[0]
        return logits[:, before : side - after]
