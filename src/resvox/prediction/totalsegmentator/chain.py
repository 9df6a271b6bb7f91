"""A run of a task with its models: the crop that another run finds, resampling, the parts, merged and brought back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from resvox.prediction.totalsegmentator.cleaning import cleaned
from resvox.prediction.totalsegmentator.geometry import Canonical, box_around, canonical

if TYPE_CHECKING:
    from resvox.prediction.predictor import Progress
    from resvox.prediction.segmenter import Segmenter
    from resvox.prediction.totalsegmentator.geometry import Box
    from resvox.prediction.totalsegmentator.table import CropRule, TaskRun
    from resvox.volumes import Volume

VALUES = 256  # of a label map of 8 bits, which no task exceeds


@dataclass(frozen=True, kw_only=True)
class Part:
    """A model, and the value in the task's label map for each of its labels; 0 for those that are left out."""

    segmenter: Segmenter
    values: np.ndarray

    def merge_into(self, labels: np.ndarray, own: np.ndarray) -> None:
        """Write the labels of this part over those of earlier ones."""
        table = np.zeros(max(len(self.values), int(own.max()) + 1), np.uint8)
        table[: len(self.values)] = self.values
        mapped = table[own]
        np.copyto(labels, mapped, where=mapped != 0)


@dataclass(kw_only=True)
class Account:
    """Windows and seconds of one scan, summed over its models.

    Args:
        models: how many models it passes through.
    """

    models: int
    progress: Progress | None = None
    done: int = 0
    windows: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def of_next_model(self) -> Callable[[int, int], object] | None:
        """What counts the windows of one model: as if all models had as many."""
        self.done += 1
        place, report = self.done - 1, self.progress
        return None if report is None else lambda done, total: report(place * total + done, self.models * total)

    def finish(self) -> None:
        """The models that are left have nothing to do."""
        if self.progress is not None:
            self.progress(self.windows, self.windows)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count seconds per stage."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a block."""
        start = time.perf_counter()
        yield
        self.add({name: time.perf_counter() - start})


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A run of a task, all its models loaded.

    Args:
        parts: of which a later one writes over an earlier one.
        values: of all labels of the task.
        order: of the splines with which scans are resampled.
        crop: the run that finds the box in which this one looks, and the labels that it is put around.
    """

    run: TaskRun
    parts: tuple[Part, ...]
    values: Mapping[str, int]
    order: int
    crop: tuple[Chain, CropRule] | None = None

    @property
    def models(self) -> int:
        """Models that a scan passes through."""
        return len(self.parts) + (0 if self.crop is None else self.crop[0].models)

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """Those of this run, and those of the runs that find its box."""
        return (*self.parts, *(() if self.crop is None else self.crop[0].all_parts))

    def prepare(self, volume: Volume) -> Canonical:
        """What the first models see of a scan."""
        return self._canonical(volume, None) if self.crop is None else self.crop[0].prepare(volume)

    def labels(self, volume: Volume, first: Canonical, account: Account) -> np.ndarray:
        """The label map of a scan on its own grid, (D, H, W) uint8.

        Args:
            volume: the scan.
            first: what `prepare` made of it.
        """
        if self.crop is None:
            return self._predicted(first, account)
        chain, rule = self.crop
        rough = chain.labels(volume, first, account)
        wanted = np.zeros(VALUES, bool)
        wanted[[chain.values[name] for name in rule.labels]] = True
        box = box_around(wanted[rough], volume.grid, rule.addon_mm)
        labels = np.zeros(volume.grid.shape, np.uint8)
        if box is None:
            account.finish()
            return labels
        del rough
        with account.stage("preprocess"):
            seen = self._canonical(volume, box)
        labels[box] = self._predicted(seen, account)
        return labels

    def _canonical(self, volume: Volume, box: Box | None) -> Canonical:
        array = volume.with_channel_axis()[0]
        return canonical(
            array if box is None else array[box],
            volume.grid,
            spacing_mm=self.run.spacing_mm,
            order=self.order,
            whole_numbers=box is not None,
        )

    def _predicted(self, seen: Canonical, account: Account) -> np.ndarray:
        labels = np.zeros(seen.volume.grid.shape, np.uint8)
        for part in self.parts:
            made = part.segmenter.segment(seen.volume, progress=account.of_next_model())
            account.add(made.seconds)
            account.windows += made.windows
            account.skipped += made.skipped
            part.merge_into(labels, made.label_map.array)
        with account.stage("restore"):
            return seen.inverse(cleaned(labels, self.run.clean, self.values, seen.volume.spacing_mm))
