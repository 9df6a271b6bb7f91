"""Sliding-window inference slice by slice: slices that no later window touches are yielded and released.

Memory is proportional to the number of classes times the depth of one window, not times the whole volume. Results
equal those of :func:`resvox.inference.sliding_window_inference` bit for bit: the windows of every voxel are added in
the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.mirroring import Predictor
from resvox.inference.sliding_window import WindowedScan

BYTES = 4  # per float32


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


@dataclass(kw_only=True)
class WindowCount:
    """Counts: windows, computed windows (those on a border of tiles count twice), skipped empty windows, tiles."""

    windows: int = 0
    computed: int = 0
    empty: int = 0
    tiles: int = 1


def stream_sliding_window(
    array: np.ndarray,
    predictor: Predictor,
    *,
    roi_size: int | Sequence[int | None],
    overlap: float | Sequence[float] = 0.5,
    mode: str = "gaussian",
    sigma_scale: float | Sequence[float] = 0.125,
    sw_batch_size: int = 1,
    padding_mode: str = "constant",
    cval: float = 0.0,
    mirror_axes: Sequence[int] = (),
    placement: str = "stepped",
    skip_empty: float | None = None,
    memory_gb: float | None = None,
    threads: int = 1,
    ahead: bool = False,
    independent: bool = False,
    progress: Callable[[int, int], object] | None = None,
    count: WindowCount | None = None,
) -> Iterator[FinishedSlice]:
    """The logits of `sliding_window_inference`, in slices along the first spatial axis, first to last.

    Args:
        skip_empty: skip empty windows: those whose values are all within this fraction of the volume's range above its
            lowest value (air), or are constant. Voxels that no other window covers get class 0.
        memory_gb: limit for the sums of unfinished slices. Where they would need more, the volume is processed in
            tiles along the second axis, one after the other; windows on a border of tiles are computed for each.
            Tiles overlap by one row, so that linear interpolation has both its neighbours. None sets no limit.
        threads: number of threads that add windows.
        ahead: compute the next windows while the last ones are added: for engines on another device whose outputs
            stay valid.
        independent: outputs are decided one by one (regions), so that a voxel of skipped windows has none of them.
        count: filled with the numbers of windows and tiles.

    The other arguments as in :func:`resvox.inference.sliding_window_inference`; ``progress`` counts windows of all
    tiles.

    Yields:
        Slices of the first tile, then of the second, and so on.

    Raises:
        InferenceError: as in `sliding_window_inference`.
    """
    scan = WindowedScan(
        array,
        predictor,
        roi_size=roi_size,
        overlap=overlap,
        mode=mode,
        sigma_scale=sigma_scale,
        sw_batch_size=sw_batch_size,
        padding_mode=padding_mode,
        cval=cval,
        mirror_axes=mirror_axes,
        placement=placement,
    )
    count = count if count is not None else WindowCount()
    count.windows = len(scan.starts)
    starts = _filled_windows(scan, skip_empty)
    count.empty = len(scan.starts) - len(starts)
    with ThreadPoolExecutor(threads) as pool:
        share = partial(_share, pool, threads)
        report = progress or (lambda done, total: None)
        yield from _Stream(scan, starts, memory_gb, share, report, count, ahead=ahead, independent=independent).slices()


Share = Callable[[Callable[[int], None], int], None]


def _share(pool: ThreadPoolExecutor, threads: int, work: Callable[[int], None], number: int) -> None:
    """Call ``work(0)`` to ``work(number - 1)``, each thread a contiguous range of them."""

    def run(part: int) -> None:
        for index in range(part * number // threads, (part + 1) * number // threads):
            work(index)

    if threads == 1:
        run(0)
    else:
        list(pool.map(run, range(threads)))


def _filled_windows(scan: WindowedScan, skip_empty: float | None) -> list[tuple[int, ...]]:
    if skip_empty is None:
        return scan.starts
    if not 0 <= skip_empty < 1:
        raise InferenceError(f"skip_empty={skip_empty}", expected="a fraction of the range of values, 0 to 1")
    low, high = float(scan.padded.min()), float(scan.padded.max())
    limit = low + skip_empty * (high - low)
    kept = []
    for start in scan.starts:
        window = scan.padded[(slice(None), *(slice(s, s + n) for s, n in zip(start, scan.roi, strict=True)))]
        highest = window.max()
        if highest > limit and highest > window.min():
            kept.append(start)
    return kept or scan.starts[:1]  # at least one output is needed for the number of classes


class _Stream:
    """The slices of a scan, tile by tile."""

    def __init__(
        self,
        scan: WindowedScan,
        starts: list[tuple[int, ...]],
        memory_gb: float | None,
        share: Share,
        report: Callable[[int, int], object],
        count: WindowCount,
        *,
        ahead: bool,
        independent: bool,
    ) -> None:
        self.independent = independent
        self.scan, self.starts, self.share, self.report, self.count = scan, starts, share, report, count
        self.memory_gb, self.ahead = memory_gb, ahead
        self.total = len(starts)

    def slices(self) -> Iterator[FinishedSlice]:
        """All slices of all tiles, without padding."""
        scan = self.scan
        self.report(0, self.total)
        # The first output has the number of classes, and hence gives the memory of a slice.
        first: list[np.ndarray] = [next(scan.outputs(self.starts[:1]))[1]]
        classes = first[0].shape[1]
        tiles = self._tiles(classes)
        self.count.tiles = len(tiles)
        plans = [self._windows_of(tile) for tile in tiles]
        self.total = sum(map(len, plans))
        for tile, windows in zip(tiles, plans, strict=True):
            yield from self._tile(tile, windows, classes, first)

    def _tiles(self, classes: int) -> list[tuple[int, int]]:
        """Start and stop of each tile along the second axis, in voxels without padding.

        Each tile but the first begins with the last row of the one before.
        """
        scan = self.scan
        size = scan.padded.shape[1:]
        before, after = scan.pads[1]
        inner = size[1] - before - after
        if len(size) < 3 or self.memory_gb is None:
            return [(0, inner)]
        row = classes * scan.roi[0] * size[2] * BYTES  # bytes of a row in all slices that a window covers
        rows = max(int(self.memory_gb * 1e9 // row), 2)
        # a tile of `rows` rows adds rows - 1 new ones, as one is shared with its neighbour; the number is rounded up
        number = -(-max(inner - 1, 1) // (rows - 1))
        edges = [round(index * (inner - 1) / number) for index in range(number + 1)]
        return [(low, high + 1) for low, high in itertools.pairwise(edges)] if inner > 1 else [(0, 1)]

    def _windows_of(self, tile: tuple[int, int]) -> list[tuple[int, ...]]:
        scan = self.scan
        if len(scan.roi) < 3:
            return self.starts
        low, high = (edge + scan.pads[1][0] for edge in tile)
        return [start for start in self.starts if start[1] < high and start[1] + scan.roi[1] > low]

    def _tile(
        self, tile: tuple[int, int], windows: list[tuple[int, ...]], classes: int, first: list[np.ndarray]
    ) -> Iterator[FinishedSlice]:
        scan = self.scan
        sums = _SliceSums(scan, tile, classes, self.share, independent=self.independent)
        # The output that gave the number of classes is used, not computed again, and released before the next one.
        if first and windows[:1] == self.starts[:1]:
            sums.add(windows[0], first.pop()[0])
            windows = windows[1:]
            self._report(1)
        first.clear()
        for batch, logits in scan.outputs(windows, ahead=self.ahead):
            for start, window in zip(batch, logits, strict=True):
                yield from sums.finished_before(start[0])
                sums.add(start, window)
            self._report(len(batch))
        yield from sums.finished_before(scan.padded.shape[1])

    def _report(self, windows: int) -> None:
        self.count.computed += windows
        self.report(self.count.computed, self.total)


class _SliceSums:
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

    def add(self, start: tuple[int, ...], logits: np.ndarray) -> None:
        """Add a window (classes, *roi) with its weights; slices are allocated when they are first used."""
        if logits.shape[0] != self.classes:
            raise InferenceError(
                f"a window with {logits.shape[0]} classes after windows with {self.classes}",
                expected="the same number of classes for every window",
            )
        # rows of the window that are in the tile, and their place in the arrays of the tile
        low = max(self.low - start[1], 0)
        high = min(self.high - start[1], self.scan.roi[1])
        place: tuple[slice, ...] = (slice(start[1] + low - self.low, start[1] + high - self.low),)
        if len(start) == 3:
            place += (slice(start[2], start[2] + self.scan.roi[2]),)
        for offset in range(self.scan.roi[0]):
            if start[0] + offset not in self.sums:
                self.sums[start[0] + offset] = np.zeros((self.classes, *self.rest), np.float32)
                self.weights[start[0] + offset] = np.zeros(self.rest, np.float32)

        def add_slice(offset: int) -> None:
            weights = self.scan.weights[offset, low:high]
            self.sums[start[0] + offset][(slice(None), *place)] += logits[:, offset, low:high] * weights
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
                yield FinishedSlice(index=index - before, start=self.start, logits=self._cropped(logits))

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

    def _cropped(self, logits: np.ndarray) -> np.ndarray:
        pads, sides = self.scan.pads[1:], logits.shape[1:]
        if len(pads) == 2:  # arrays of a tile have no padding along the second axis
            (before, after), side = pads[1], sides[1]
            return logits[:, :, before : side - after]
        (before, after), side = pads[0], sides[0]
        return logits[:, before : side - after]
