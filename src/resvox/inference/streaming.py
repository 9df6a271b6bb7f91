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
from resvox.inference.passes.covering import covering_windows
from resvox.inference.passes.two_pass import TwoPasses, TwoPassTile
from resvox.inference.repeated_windows import constant_windows_once
from resvox.inference.slice_sums import FinishedSlice, Share, SliceSums
from resvox.inference.sliding_window import WindowedScan
from resvox.inference.windows import tile_edges

BYTES = 4  # per float32


@dataclass(kw_only=True)
class WindowCount:
    """Counts of windows; those on a border of tiles count twice, except in ``windows``.

    ``computed``: by the predictor. ``empty``: skipped as empty. ``repeated``: without contrast, of a value that was
    computed before. ``left_out``: left out by the second of two passes. ``tiles``: how many tiles there are.
    """

    windows: int = 0
    computed: int = 0
    empty: int = 0
    repeated: int = 0
    left_out: int = 0
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
    constant_once: bool = False,
    passes: TwoPasses | None = None,
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
        constant_once: compute windows without contrast once for each value; the numbers are the same.
        passes: compute windows that cover the scan first, and the others as far as they could change a label, see
            :mod:`resvox.inference.passes.two_pass`. None computes all.
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
    starts = filled_windows(scan, skip_empty)
    count.empty = len(scan.starts) - len(starts)
    if constant_once:
        scan.predict = constant_windows_once(scan.predict, partial(_count_repeated, count))
    with ThreadPoolExecutor(threads) as pool:
        share = partial(_share, pool, threads)
        report = progress or (lambda done, total: None)
        stream = _Stream(
            scan, starts, memory_gb, share, report, count, ahead=ahead, independent=independent, passes=passes
        )
        yield from stream.slices()


def _count_repeated(count: WindowCount) -> None:
    count.repeated += 1


def _share(pool: ThreadPoolExecutor, threads: int, work: Callable[[int], None], number: int) -> None:
    """Call ``work(0)`` to ``work(number - 1)``, each thread a contiguous range of them."""

    def run(part: int) -> None:
        for index in range(part * number // threads, (part + 1) * number // threads):
            work(index)

    if threads == 1:
        run(0)
    else:
        list(pool.map(run, range(threads)))


def filled_windows(scan: WindowedScan, skip_empty: float | None) -> list[tuple[int, ...]]:
    """The starts of the windows that are not skipped as empty, see `stream_sliding_window`; at least one.

    Raises:
        InferenceError: a fraction outside 0 to 1.
    """
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
        passes: TwoPasses | None,
    ) -> None:
        self.independent, self.passes = independent, passes
        self.scan, self.starts, self.share, self.report, self.count = scan, starts, share, report, count
        self.memory_gb, self.ahead = memory_gb, ahead
        self.total = len(starts)
        self.covering = covering_windows(scan.starts, scan.roi) if passes else set()

    def slices(self) -> Iterator[FinishedSlice]:
        """All slices of all tiles, without padding."""
        self.report(0, self.total)
        first = self._first_outputs()
        classes = len(next(iter(first.values())))
        tiles = self._tiles(classes)
        self.count.tiles = len(tiles)
        plans = [self._windows_of(tile) for tile in tiles]
        self.total = sum(map(len, plans))
        for tile, windows in zip(tiles, plans, strict=True):
            yield from self._tile(tile, windows, classes, first)

    def _first_outputs(self) -> dict[tuple[int, ...], np.ndarray]:
        """The outputs (classes, *roi) of the windows that are needed first: a batch of the usual size.

        They have the number of classes, and hence give the memory of a slice. A GPU's graph is recorded for the size of
        the first batch, so that it must be that of the others.
        """
        needed = self.starts
        if self.passes is not None:
            needed = [start for start in needed if start in self.covering or start == needed[0]]
        batch, outputs = next(self.scan.outputs(needed[: self.scan.batch_size]))
        return dict(zip(batch, outputs, strict=True))

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
        # bytes of a row in all slices that a window covers
        row = classes * scan.roi[0] * size[2] * BYTES * self._copies()
        return tile_edges(inner, int(self.memory_gb * 1e9 // row))

    def _windows_of(self, tile: tuple[int, int]) -> list[tuple[int, ...]]:
        scan = self.scan
        if len(scan.roi) < 3:
            return self.starts
        low, high = (edge + scan.pads[1][0] for edge in tile)
        return [start for start in self.starts if start[1] < high and start[1] + scan.roi[1] > low]

    def _copies(self) -> float:
        """How many times a window's depth of the scan is held: sums, outputs of the first pass, sums of trials."""
        if self.passes is None:
            return 1
        rows, columns = ({start[axis] for start in self.covering} for axis in (0, 2))
        every = {start[0] for start in self.scan.starts}
        depth = max(sum(begin <= row < begin + self.scan.roi[0] for row in rows) for begin in every)
        width: float = len(columns) * self.scan.roi[2] / self.scan.padded.shape[3]
        return 1 + len(self.passes.measured) + depth * width

    def _tile(
        self,
        tile: tuple[int, int],
        windows: list[tuple[int, ...]],
        classes: int,
        first: dict[tuple[int, ...], np.ndarray],
    ) -> Iterator[FinishedSlice]:
        scan = self.scan

        def new_sums() -> SliceSums:
            return SliceSums(scan, tile, classes, self.share, independent=self.independent)

        # The outputs that gave the number of classes are used, not computed again, and released before the next ones.
        if self.passes is not None:
            covering = self.covering | ({windows[0]} if first else set())
            outputs = partial(self._outputs, first=first)
            two = TwoPassTile(
                self.passes, windows, covering, outputs=outputs, new_sums=new_sums, skipped=self._leave_out
            )
            yield from two.slices()
            return
        sums = new_sums()
        for start, window in zip(windows, self._outputs(windows, first=first), strict=True):
            yield from sums.finished_before(start[0])
            sums.add(start, sums.rows(start, window))
        yield from sums.finished_before(scan.padded.shape[1])

    def _outputs(
        self, windows: Sequence[tuple[int, ...]], *, first: dict[tuple[int, ...], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """The output (classes, *roi) of each window, valid until the next one is requested."""
        known = list(itertools.takewhile(lambda start: start in first, windows))
        if known:
            self._report(len(known))
            for start in known:
                yield first.pop(start)
        first.clear()  # the engine may write its next outputs into the same memory
        windows = windows[len(known) :]
        for batch, logits in self.scan.outputs(windows, ahead=self.ahead):
            self._report(len(batch))
            yield from logits

    def _leave_out(self, windows: int) -> None:
        self.count.left_out += windows
        self.report(self.count.computed + self.count.left_out, self.total)

    def _report(self, windows: int) -> None:
        self.count.computed += windows
        self.report(self.count.computed + self.count.left_out, self.total)
