"""A volume on another grid: linear, nearest, or a label map that does not shift."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from resvox.errors import VolumeError
from resvox.volumes.grid import Grid
from resvox.volumes.itk import image_of, sitk
from resvox.volumes.volume import Volume

Interpolation = Literal["linear", "nearest", "label"]
Bounds = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # start and stop, one an axis
METHODS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
# A label level with the background wins, up to rounding: on both sides alike, so nothing shifts.
TIE = 1e-4
HALF_MAXIMUM = 2.0 * math.sqrt(2.0 * math.log(2.0))  # full width at half maximum of a Gaussian, in sigmas
SMALLEST_SIGMA = 0.05  # of a voxel: below it a blur changes nothing


def resample(
    volume: Volume,
    grid: Grid,
    *,
    interpolation: Interpolation = "linear",
    fill: float | None = 0.0,
    antialias: bool = False,
) -> Volume:
    """Bring a volume to a grid through world positions: what lies at a millimetre stays there.

    Args:
        volume: (*spatial) or (channels, *spatial).
        grid: where the result lives; the volume itself is handed back if it lives there already.
        interpolation: ``"linear"`` gives float32. ``"nearest"`` keeps the type; at exact half voxels it
            rounds to one side, which can shift a structure by half a voxel. ``"label"`` keeps the type and
            does not shift: linear interpolation of each label's mask, and the strongest wins (islands of a
            single voxel may be lost).
        fill: value more than half a voxel outside the volume; None repeats the nearest voxel of its edge.
        antialias: with ``"linear"``, blur along axes that lose resolution first, by the Gaussian that
            widens a source voxel to a target voxel (Cardoso et al., MICCAI 2015), so that thin bright
            detail does not flicker.

    Raises:
        VolumeError: 2-D to 3-D or back, an unknown interpolation.
    """
    if interpolation not in ("linear", "nearest", "label"):
        raise VolumeError(
            f"interpolation={interpolation!r}", expected="'linear', 'nearest' or 'label'", fix="choose one"
        )
    if grid.spatial_dims != volume.spatial_dims:
        raise VolumeError(
            f"a {volume.spatial_dims}-D volume to a {grid.spatial_dims}-D grid", expected="equal dimensions"
        )
    if grid == volume.grid:
        return _float32(volume) if interpolation == "linear" else volume
    planes = [Volume.on_grid(one, volume.grid) for one in volume.with_channel_axis()]
    if len(planes) == 1:  # one channel is its own stack: no copy
        alone = _resample_plane(planes[0], grid, interpolation, fill, antialias)
        has_channels = volume.array.ndim > volume.spatial_dims
        return Volume.on_grid(alone[np.newaxis] if has_channels else alone, grid)
    out = np.empty((len(planes), *grid.shape), np.float32 if interpolation == "linear" else volume.array.dtype)
    for index, plane in enumerate(planes):
        out[index] = _resample_plane(plane, grid, interpolation, fill, antialias)
    return Volume.on_grid(out, grid)


def _float32(volume: Volume) -> Volume:
    return volume.with_array(volume.array.astype(np.float32, copy=False))


def _resample_plane(
    volume: Volume, grid: Grid, interpolation: Interpolation, fill: float | None, antialias: bool
) -> npt.NDArray[Any]:
    if interpolation == "nearest":
        return _execute(volume, grid, "nearest", fill).astype(volume.array.dtype, copy=False)
    if interpolation == "label":
        return _resample_labels(volume, grid, fill)
    volume = _float32(volume)
    if antialias:
        volume = _blurred(volume, grid)
    return _execute(volume, grid, "linear", fill)


def _execute(volume: Volume, grid: Grid, method: str, fill: float | None) -> npt.NDArray[Any]:
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(METHODS[method])
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm[::-1])
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction[:, ::-1].ravel().tolist())
    resampler.SetDefaultPixelValue(0.0 if fill is None else float(fill))
    resampler.SetUseNearestNeighborExtrapolator(fill is None)
    result: npt.NDArray[Any] = sitk.GetArrayFromImage(resampler.Execute(image_of(volume)))
    return result


def _blurred(volume: Volume, grid: Grid) -> Volume:
    turned = np.abs(volume.grid.direction.T @ grid.direction) * np.asarray(grid.spacing_mm)
    factors = turned.max(axis=1) / np.asarray(volume.spacing_mm)  # target voxel seen along each source axis
    sigmas_voxels = np.sqrt(np.maximum(factors**2 - 1.0, 0.0)) / HALF_MAXIMUM
    array = volume.array
    for axis, sigma in enumerate(sigmas_voxels):
        if sigma >= SMALLEST_SIGMA and array.shape[axis] > 1:
            array = gaussian_filter1d(array, sigma, axis=axis, mode="nearest")
    return volume.with_array(array)


def _resample_labels(volume: Volume, grid: Grid, fill: float | None) -> npt.NDArray[Any]:
    labels = volume.array
    if labels.dtype.kind not in "biu":
        raise VolumeError(f"a label map of type {labels.dtype}", expected="whole numbers", fix="convert it")
    background = int(fill or 0)
    out = np.full(grid.shape, background, labels.dtype)
    to_beat = np.full(grid.shape, TIE, np.float32)  # the strongest label's weight so far, and TIE
    total = np.zeros(grid.shape, np.float32)
    for label in np.unique(labels):
        if label == background:
            continue
        mask = labels == label
        bounds = mask_bounds(mask)
        box = _reach(bounds, volume.grid, grid, edge_repeats=fill is None)
        if box is None:
            continue
        part = _cut(mask, bounds, volume.grid)
        weight = _execute(part, _sub_grid(grid, box), "linear", None if fill is None else 0.0)
        out[box][weight > to_beat[box]] = label
        total[box] += weight
        weight += np.float32(TIE)  # in place, here and below: a copy of a whole scan is nearly a gigabyte
        np.maximum(to_beat[box], weight, out=to_beat[box])
        del weight  # or it would stay beside the next one
    total += to_beat
    out[total < 1.0] = background  # the background's weight, 1 - total, is above the strongest label's
    return out


def _cut(mask: npt.NDArray[np.bool_], bounds: Bounds, grid: Grid) -> Volume:
    """The mask's bounding box and a rim of one voxel, where there is one: beyond it linear gives zero."""
    start, stop = bounds
    box = tuple(slice(max(a - 1, 0), b + 1) for a, b in zip(start, stop, strict=True))
    part = mask[box].astype(np.float32)
    return Volume.on_grid(
        part,
        _sub_grid(grid, tuple(slice(s.start, s.start + n) for s, n in zip(box, part.shape, strict=True))),
    )


def _reach(bounds: Bounds, source: Grid, target: Grid, *, edge_repeats: bool) -> tuple[slice, ...] | None:
    """The target voxels that a mask can reach, or None: a hundred labels then cost little more than one."""
    start, stop = bounds
    if edge_repeats and ((start == 0) | (stop == source.shape)).any():
        return tuple(slice(0, n) for n in target.shape)
    ends = np.stack([start - 1, stop])  # where linear interpolation has come down to zero
    corners = target.index(source.world_mm(list(itertools.product(*ends.T))))
    first = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, target.shape)
    last = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, target.shape)
    if (last <= first).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _sub_grid(grid: Grid, box: tuple[slice, ...]) -> Grid:
    return Grid(
        tuple(side.stop - side.start for side in box),
        spacing_mm=grid.spacing_mm,
        origin_mm=tuple(grid.world_mm([side.start for side in box])),
        direction=grid.direction,
    )


def mask_bounds(mask: npt.NDArray[np.bool_]) -> Bounds:
    """Start and stop along each axis of the smallest box that holds a mask of at least one voxel."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(k for k in range(mask.ndim) if k != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        sides.append((filled[0], filled[-1] + 1))
        # What this axis has ruled out is not looked at for the next ones.
        mask = mask[(slice(None),) * axis + (slice(filled[0], filled[-1] + 1),)]
    bounds = np.array(sides)
    return bounds[:, 0], bounds[:, 1]
