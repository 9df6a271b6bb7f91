"""A whole image at one fixed size: the input of a classifier, which gives one output for the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import PlanError
from resvox.preprocessing.pipeline import Preprocessing
from resvox.preprocessing.steps import Array
from resvox.volumes import Grid, Volume, resample

FITS = ("resize", "crop")


def prepare_whole(volume: Volume, preprocessing: Preprocessing, size: Sequence[int], fit: str) -> Array:
    """Preprocess a scan and bring all of it to ``size`` voxels.

    Args:
        volume: (*spatial) or (channels, *spatial).
        fit: ``"resize"`` interpolates the box of the image to ``size``, without keeping its proportions;
            ``"crop"`` does not interpolate: it crops the middle of a larger image, and pads a smaller one with
            the lowest value of each channel.

    Returns:
        (channels, *size) float32.

    Raises:
        VolumeError: a scan that the preprocessing rejects.
        PlanError: an unknown fit.
    """
    prepared = preprocessing.apply(volume)
    if fit == "resize":
        return _resized(prepared.array, prepared.grid, tuple(size))
    if fit != "crop":
        raise PlanError(f"fit={fit!r}", expected=f"one of {', '.join(FITS)}")
    return _cropped(prepared.array, tuple(size))


def _resized(array: Array, grid: Grid, size: tuple[int, ...]) -> Array:
    if grid.shape == size:
        return array
    spacing = tuple(mm * old / new for mm, old, new in zip(grid.spacing_mm, grid.shape, size, strict=True))
    # The outer faces of the image stay, so the first centre moves by half the difference of the spacings.
    first = [(old / new - 1) / 2 for old, new in zip(grid.shape, size, strict=True)]
    target = Grid(size, spacing_mm=spacing, origin_mm=tuple(grid.world_mm(first)), direction=grid.direction)
    made = resample(Volume.on_grid(array, grid), target, interpolation="linear", fill=None, antialias=True)
    return np.ascontiguousarray(made.array, np.float32)


def _cropped(array: Array, size: tuple[int, ...]) -> Array:
    lowest = array.reshape(len(array), -1).min(axis=1)
    out = np.empty((len(array), *size), np.float32)
    out[...] = lowest.reshape(-1, *[1] * len(size))
    source, target = [slice(None)], [slice(None)]
    for old, new in zip(array.shape[1:], size, strict=True):
        shared = min(old, new)
        source.append(slice((old - shared) // 2, (old - shared) // 2 + shared))
        target.append(slice((new - shared) // 2, (new - shared) // 2 + shared))
    out[tuple(target)] = array[tuple(source)]
    return out
