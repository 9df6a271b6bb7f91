"""Label maps of scans by an engine that keeps everything on its device, within the memory that is free there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from resvox.errors import InferenceError
from resvox.inference.device.restoring import BYTES, DeviceRestorer, LabelRule, to_device
from resvox.inference.device.sums import DeviceSums, FinishedSlab
from resvox.inference.engines.cuda_graph import is_out_of_memory
from resvox.inference.engines.protocol import OnDevice
from resvox.inference.mirroring import flips_of
from resvox.inference.sliding_window import WindowedScan
from resvox.inference.streaming import WindowCount, filled_windows
from resvox.inference.windows import tile_edges
from resvox.preprocessing import Prepared
from resvox.volumes import Volume

BATCH_VOXELS = 4 * 96**3  # of the windows in one pass, enough to keep a GPU busy
MOST_WINDOWS = 64
SHARE = 0.8  # of the free memory that a scan may take
SMALLER_SLABS = 3  # halvings of the memory for slabs before windows are computed fewer at a time
USUAL = {
    "overlap": 0.5,
    "mode": "gaussian",
    "sigma_scale": 0.125,
    "padding_mode": "constant",
    "cval": 0.0,
    "mirror_axes": (),
    "placement": "stepped",
}
Start = tuple[int, ...]
Progress = Callable[[int, int], object]


class DeviceLabels:
    """Label maps of the scans of one model.

    Where memory runs out, a scan is begun again with smaller slabs, then with smaller batches of windows; both are kept
    for the scans after it.

    Args:
        engine: computes windows on its device.
        rule: how its outputs become labels.
        batch: windows in one pass; None: as many as keep a GPU busy.
        memory: bytes that a scan may take on the device; None: most of what is free, without a limit on a processor.
        notify: called with a line of text where memory runs out.
    """

    def __init__(
        self,
        engine: OnDevice,
        rule: LabelRule,
        *,
        batch: int | None = None,
        memory: int | None = None,
        notify: Callable[[str], object],
    ) -> None:
        self.engine, self.rule, self.notify = engine, rule, notify
        self.device = torch.device(str(engine.device))
        self.batch, self.memory = batch, memory
        self.halvings = 0
        self.outputs: int | None = None  # of the network, known after its first pass
        self.restoring_seconds = 0.0  # of the last scan, on the device

    def labels(
        self,
        prepared: Prepared,
        *,
        skip_empty: float | None = None,
        progress: Progress | None = None,
        count: WindowCount | None = None,
        **windows: Any,
    ) -> Volume | None:
        """The label map on exactly the grid of the scan; None where the device's memory does not suffice.

        Args:
            prepared: the preprocessed scan of 3 axes, whose steps `can_restore`.
            skip_empty, progress, count: as in `stream_sliding_window`.
            windows: roi_size, overlap, mode, sigma_scale, padding_mode, cval, mirror_axes, placement of
                `sliding_window_inference`.

        Raises:
            InferenceError: arguments that are not valid; outputs of a wrong shape, number, or that are not finite.
        """
        count = count if count is not None else WindowCount()
        scan = WindowedScan(prepared.array, _never, sw_batch_size=1, **{**USUAL, **windows})
        starts = filled_windows(scan, skip_empty)
        if self.batch is None:
            self.batch = min(max(BATCH_VOXELS // math.prod(scan.roi), 1), MOST_WINDOWS)
        while True:
            count.windows, count.computed, count.empty = len(scan.starts), 0, len(scan.starts) - len(starts)
            one = _OneScan(self, prepared, scan, starts, count, progress, tuple(windows.get("mirror_axes", ())))
            try:
                with torch.inference_mode():
                    return one.volume()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, where the traceback would keep everything alive.
            del one
            if not self._shrink():
                return None

    def available(self) -> int | None:
        """Bytes that the next scan may take; None without a limit."""
        limit = self.memory
        if limit is None and self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            limit = int(SHARE * (free + kept))
        return None if limit is None else limit >> self.halvings

    def _shrink(self) -> bool:
        """Take less memory: whether there was a way."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        assert self.batch is not None
        words = f"out of memory on {self.device}"
        if self.halvings < SMALLER_SLABS and self.available() is not None:
            self.halvings += 1
            self.notify(f"{words}; continuing with smaller slabs")
        elif self.batch > 1:
            self.batch //= 2
            self.notify(f"{words}; continuing with {self.batch} windows at a time")
        else:
            self.notify(f"{words} for one window and its slab; continuing with sums in main memory")
            return False
        return True


@dataclass
class _OneScan:
    """One attempt at a scan."""

    owner: DeviceLabels
    prepared: Prepared
    scan: WindowedScan
    starts: Sequence[Start]
    count: WindowCount
    progress: Progress | None
    mirror_axes: tuple[int, ...]

    def __post_init__(self) -> None:
        self.flips = flips_of(self.mirror_axes)

    def volume(self) -> Volume:
        """All tiles, one after the other."""
        owner, scan = self.owner, self.scan
        volume = to_device(scan.padded, owner.device)
        weights = to_device(scan.weights, owner.device)
        assert owner.batch is not None
        if owner.outputs is None:
            owner.outputs = self._computed(volume, self.starts[: owner.batch]).shape[1]
        available = owner.available()
        tiles = self._tiles(owner.outputs, available)
        plans = [self._windows_of(tile) for tile in tiles]
        self.count.tiles, self.total = len(tiles), sum(map(len, plans))
        budget = available // 4 if available is not None else 1 << 62
        restorer = DeviceRestorer(self.prepared, owner.rule, device=owner.device, budget=budget)
        clock = _Clock(owner.device)
        self._report(0)
        for tile, windows in zip(tiles, plans, strict=True):
            sums = DeviceSums(
                scan,
                tile,
                owner.outputs,
                weights,
                independent=owner.rule.regions,
                all_seen=len(self.starts) == len(scan.starts),
            )
            for first in range(0, len(windows), owner.batch):
                batch = windows[first : first + owner.batch]
                outputs = self._computed(volume, batch)
                self._report(len(batch))
                for start, window in zip(batch, outputs, strict=True):
                    for slab in sums.finished_before(start[0]):
                        clock(restorer.take, slab)
                    sums.add(start, window)
            for slab in sums.finished_before(scan.padded.shape[1]):
                clock(restorer.take, slab)
        made = restorer.volume()
        owner.restoring_seconds = clock.seconds()
        return made

    def _tiles(self, outputs: int, available: int | None) -> list[tuple[int, int]]:
        size = self.scan.padded.shape[2] - sum(self.scan.pads[1])
        if available is None:
            return [(0, size)]
        # sums and their weights, the means of finished slices with those held, and the product of a window
        row = (3 * outputs + 1) * self.scan.roi[0] * self.scan.padded.shape[3] * BYTES
        return tile_edges(size, available // 2 // row)

    def _windows_of(self, tile: tuple[int, int]) -> list[Start]:
        low, high = (edge + self.scan.pads[1][0] for edge in tile)
        return [start for start in self.starts if start[1] < high and start[1] + self.scan.roi[1] > low]

    def _computed(self, volume: torch.Tensor, batch: Sequence[Start]) -> torch.Tensor:
        """Outputs (batch, outputs, *roi) of windows, the mean over their mirror images; valid until the next call."""
        roi = self.scan.roi
        cut = [volume[(slice(None), *(slice(s, s + n) for s, n in zip(start, roi, strict=True)))] for start in batch]
        windows = torch.stack(cut)
        outputs = self._checked(self.owner.engine.on_device(windows), windows)
        if not self.flips:
            return outputs
        total = outputs.to(torch.float32, copy=True)
        for flip in self.flips:
            total += self._checked(self.owner.engine.on_device(windows.flip(flip)), windows).flip(flip)
        total /= len(self.flips) + 1
        return total

    def _checked(self, outputs: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        fits = outputs.ndim == windows.ndim and outputs.shape[1] >= 1
        if not fits or (len(outputs), *outputs.shape[2:]) != (len(windows), *windows.shape[2:]):
            raise InferenceError(
                f"a predictor that returned {tuple(outputs.shape)} for windows of {tuple(windows.shape)}",
                expected=f"({', '.join(map(str, (len(windows), 'classes', *windows.shape[2:])))})",
                fix="a network whose output has its input's size, and a roi_size divisible by its strides",
            )
        return outputs

    def _report(self, windows: int) -> None:
        self.count.computed += windows
        if self.progress is not None:
            self.progress(self.count.computed, self.total)


class _Clock:
    """Seconds that calls take on a device, without waiting for it in between."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __call__(self, work: Callable[[FinishedSlab], None], slab: FinishedSlab) -> None:
        if not self._on_gpu:
            start = time.perf_counter()
            work(slab)
            self._seconds += time.perf_counter() - start
            return
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        events[0].record()
        work(slab)
        events[1].record()
        self._events.append((events[0], events[1]))

    def seconds(self) -> float:
        """The seconds of all calls; the device must have finished them."""
        milliseconds: float = sum(first.elapsed_time(last) for first, last in self._events)
        return self._seconds + milliseconds / 1000


def _never(windows: Any) -> Any:
    raise AssertionError("windows are computed on the device")
