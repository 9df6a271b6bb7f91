"""Normalization of intensities, one rule per channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from resvox.errors import PlanError
from resvox.machine import usable_threads
from resvox.preprocessing.steps import Array

# A constant image becomes 0, not infinity: its deviation is rounding alone. The first limit is relative to the mean,
# because units may be tiny (a diffusion coefficient in m2/s is about 1e-9); below the second, float32 has fewer digits.
SMALLEST_DEVIATION = 1e-6
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
THREADED_VOXELS = 1 << 20
SLAB_VOXELS = 1 << 18  # that stay in a processor's cache from one operation to the next


@dataclass(frozen=True, kw_only=True)
class Window:
    """Clip to a window, then ``(x - mean) / std``: for CT, whose values have the same meaning in every scan.

    Args:
        low: lower end of the window (Hounsfield units for CT).
        high: upper end.
        mean: subtracted after clipping; by default the middle of the window.
        std: the divisor; by default half the width of the window, so that values are between -1 and 1.
    """

    low: float
    high: float
    mean: float | None = None
    std: float | None = None

    kind = "window"

    def __post_init__(self) -> None:
        numbers = [self.low, self.high, self.mean, self.std]
        if not all(value is None or _is_number(value) for value in numbers) or not self.low < self.high:
            raise PlanError(
                f"window from {self.low!r} to {self.high!r}, mean {self.mean!r}, std {self.std!r}",
                expected="finite numbers, low below high",
            )
        if self.std is not None and self.std <= 0:
            raise PlanError(f"std={self.std!r}", expected="a number above 0", fix="leave it out for half the width")

    def __call__(self, channel: Array) -> Array:
        """Float32, same shape, a new array."""
        mean = (self.low + self.high) / 2.0 if self.mean is None else self.mean
        std = (self.high - self.low) / 2.0 if self.std is None else self.std
        scored = np.empty(channel.shape, np.float32)

        def work(slab: slice) -> None:  # the only copy; all further operations are in place
            part = scored[slab]
            part[...] = channel[slab]
            np.clip(part, np.float32(self.low), np.float32(self.high), out=part)
            part -= np.float32(mean)
            part /= np.float32(std)

        _by_slabs(scored, work)
        return scored

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values, for JSON and YAML."""
        return {"kind": self.kind, **{item.name: getattr(self, item.name) for item in fields(self)}}


@dataclass(frozen=True, kw_only=True)
class ZScore:
    """Mean 0 and standard deviation 1 over each case: for MR and other images without fixed units.

    Args:
        nonzero_only: use the mean and standard deviation of the non-zero voxels; 0 stays 0 (skull-stripped MR).
    """

    nonzero_only: bool = False

    kind = "zscore"

    def __post_init__(self) -> None:
        if not isinstance(self.nonzero_only, bool):
            raise PlanError(f"nonzero_only={self.nonzero_only!r}", expected="true or false")

    def __call__(self, channel: Array) -> Array:
        """Float32, same shape, a new array; statistics in float64."""
        scored = np.array(channel, np.float32, order="C")  # the only copy; all further operations are in place
        counted = scored != 0 if self.nonzero_only else np.broadcast_to(np.True_, scored.shape)
        if not counted.any():
            return scored  # all voxels are 0
        mean, std = _mean_and_std(scored, counted)
        if std < max(SMALLEST_DEVIATION * abs(mean), SMALLEST_NORMAL):
            return np.zeros_like(scored)
        scored -= np.float32(mean)
        scored /= np.float32(std)
        np.copyto(scored, np.float32(0.0), where=~counted)
        return scored

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values, for JSON and YAML."""
        return {"kind": self.kind, "nonzero_only": self.nonzero_only}


def _mean_and_std(channel: Array, counted: Array) -> tuple[float, float]:
    """Mean and standard deviation of the selected voxels, slab by slab: no float64 copy of a whole scan is made."""
    slabs = [(slab, use) for slab, use in zip(channel, counted, strict=True) if use.any()]
    count = sum(int(np.count_nonzero(use)) for _, use in slabs)
    mean = sum(float(slab.sum(dtype=np.float64, where=use)) for slab, use in slabs) / count
    squares = sum(float(np.square(slab[use].astype(np.float64) - mean).sum()) for slab, use in slabs)
    return mean, math.sqrt(squares / count)


def _by_slabs(array: Array, work: Callable[[slice], None]) -> None:
    """Call ``work`` for slabs along the first axis, in threads where the array is large."""
    threads = usable_threads() if array.size >= THREADED_VOXELS else 1
    step = max(1, SLAB_VOXELS * len(array) // max(array.size, 1))
    slabs = [slice(first, first + step) for first in range(0, len(array), step)]
    if threads == 1:
        for slab in slabs:
            work(slab)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, slabs))


Normalization = Window | ZScore
KINDS: dict[str, type[Window] | type[ZScore]] = {Window.kind: Window, ZScore.kind: ZScore}


def normalization_from_dict(values: Mapping[str, Any]) -> Normalization:
    """The rule that `to_dict` wrote; unknown kinds and fields are rejected.

    Raises:
        PlanError: an unknown kind or field, or one that is missing.
    """
    rest = dict(values)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise PlanError(f"normalization kind {kind!r}", expected=f"one of {', '.join(KINDS)}")
    cls = KINDS[kind]
    known = [item.name for item in fields(cls)]
    unknown = sorted(set(rest) - set(known))
    if unknown:
        raise PlanError(f"{kind} normalization with unknown {', '.join(unknown)}", expected=f"of {', '.join(known)}")
    if cls is Window and not {"low", "high"} <= set(rest):
        raise PlanError(f"window normalization {rest}", expected="low and high")
    return cls(**rest)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
