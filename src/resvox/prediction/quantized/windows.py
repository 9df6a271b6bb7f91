"""Windows of prepared scans: some to calibrate a quantized network on, others to compare it with the original on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resvox.cards import ModelCard
from resvox.inference.sliding_window import padded_for
from resvox.inference.windows import window_starts

Array = np.ndarray[Any, Any]
CALIBRATION = 32  # windows to calibrate on
CHECK = 16  # windows to compare on
SCANS = 8  # that windows are cut from; of whole images as many as there are windows
EVERY = 3  # one scan of so many is kept for the comparison
LARGEST = 1 << 29  # bytes of windows in memory
SEED = 0


@dataclass(kw_only=True)
class WindowSets:
    """Windows, each (1, channels, *roi) float32.

    Args:
        calibration: to measure activations on.
        check: to compare on.
        scans: how many scans ``calibration`` is of.
        check_scans: how many others ``check`` is of; 0 where it is of the same scan.
        others: whether the windows of ``check`` are others than those of ``calibration``.
    """

    calibration: list[Array] = field(default_factory=list)
    check: list[Array] = field(default_factory=list)
    scans: int = 0
    check_scans: int = 0
    others: bool = True


def scans_wanted(card: ModelCard) -> int:
    """How many scans are used at most: a whole image is a window of its own."""
    return CALIBRATION + CHECK if card.windows is None else SCANS


def cut(scans: Iterable[Array], card: ModelCard, *, total: int) -> WindowSets:
    """Windows of prepared scans, a fixed draw.

    Of three scans the second one is kept for the comparison, of six the second and the fifth, and so on. Of a single
    scan the comparison has other windows than the calibration, as far as there are any. Windows with much contrast
    are preferred: half of those of a scan, the ones with the least contrast, are not drawn.

    Args:
        scans: (channels, *spatial) float32 each; only one is held at a time.
        card: of the model, for its window and padding.
        total: how many scans there are to be.
    """
    sets, rng = WindowSets(), np.random.default_rng(SEED)
    calibration, check = _numbers(card)
    kept = sum(number % EVERY == 1 for number in range(total))
    spare: list[Array] = []
    first = 0
    for number, scan in enumerate(scans):
        if number % EVERY == 1:
            sets.check += _windows_of(scan, card, math.ceil(check / kept), rng)
            sets.check_scans += 1
            continue
        share = math.ceil(calibration / (total - kept))
        found = _windows_of(scan, card, share if number else share + check, rng)
        if not number:  # a part for the comparison, in case there is no other scan
            first = min(share, math.ceil(len(found) * calibration / (calibration + check)))
            spare, found = found[first:], found[:share] if total > 1 else found[:first]
        sets.calibration += found
        sets.scans += 1
    if not sets.check_scans and spare:  # the others could not be read
        del sets.calibration[first:]
    del sets.calibration[calibration:]  # shares are rounded up
    if not sets.check_scans:
        sets.check, sets.others = (spare, True) if spare else (sets.calibration, False)
    return sets


def _numbers(card: ModelCard) -> tuple[int, int]:
    """How many windows to calibrate and to compare on: fewer of large windows with many channels."""
    size = 4 * card.network_channels * math.prod(card.input_size)
    part = min(1.0, LARGEST / (size * (CALIBRATION + CHECK)))
    return max(1, int(part * CALIBRATION)), max(1, int(part * CHECK))


def _windows_of(scan: Array, card: ModelCard, count: int, rng: np.random.Generator) -> list[Array]:
    """At most ``count`` windows of a scan; the image itself where the network sees it whole."""
    windows = card.windows
    if windows is None:
        return [np.ascontiguousarray(scan[np.newaxis], np.float32)]
    # a network for 2-D images sees a volume slice by slice
    thin = scan.ndim - 1 - len(windows.roi_size)
    roi = (1,) * thin + windows.roi_size
    padded = padded_for(scan, roi, mode=windows.padding, cval=windows.padding_value)
    found: list[Array] = []
    for start in _drawn(padded, roi, count, rng):
        box = tuple(slice(first, first + side) for first, side in zip(start, roi, strict=True))
        window = np.array(padded[(slice(None), *box)], np.float32)
        found.append(window.reshape(1, len(scan), *windows.roi_size))
    return found


def _drawn(scan: Array, roi: tuple[int, ...], count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """First voxels of windows with much contrast; they overlap only where there are too few others."""
    starts: list[tuple[int, ...]] = []
    for overlap in (0.0, 0.5, 0.75):
        starts = window_starts(scan.shape[1:], roi, [overlap] * len(roi))
        starts = list(dict.fromkeys(starts))
        if len(starts) >= 2 * count:
            break
    contrast = [_contrast(scan, start, roi) for start in starts]
    ranked = np.argsort(contrast, kind="stable")[::-1][: max(count, math.ceil(len(starts) / 2))]
    return [starts[place] for place in rng.permutation(ranked)[:count]]


def _contrast(scan: Array, start: tuple[int, ...], roi: tuple[int, ...]) -> float:
    """The largest standard deviation of a channel in a window."""
    box = tuple(slice(first, first + side) for first, side in zip(start, roi, strict=True))
    window = scan[(slice(None), *box)]
    return float(window.std(axis=tuple(range(1, window.ndim))).max())
