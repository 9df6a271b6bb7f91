"""Resampling to another grid: linear, nearest, or label maps without a shift."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.machine import usable_threads
from resvox.volumes.grid import Grid
from resvox.volumes.volume import Volume

Interpolation = Literal["linear", "nearest", "label"]
Bounds = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # start and stop, one per axis
# A label whose weight equals that of the background wins, up to rounding, on both sides: so nothing shifts.
TIE = 1e-4
HALF_MAXIMUM = 2.0 * math.sqrt(2.0 * math.log(2.0))  # full width at half maximum of a Gaussian, in sigmas
PARALLEL = 1e-4  # of a voxel over a whole image: less than the precision of files
BAND_ROWS = 8
THREADED_VOXELS = 1 << 20
SLABS = 8  # number of slabs for a label that fills the scan
SMALLEST_SIGMA = 0.05  # of a voxel: below it a blur changes nothing


def resample(
    volume: Volume,
    grid: Grid,
    *,
    interpolation: Interpolation = "linear",
    fill: float | None = 0.0,
    antialias: bool = False,
) -> Volume:
    """Resample a volume to a grid by world positions.

    Args:
        volume: (*spatial) or (channels, *spatial).
        grid: grid of the result; the volume itself is returned if it is on that grid already.
        interpolation: ``"linear"`` gives float32. ``"nearest"`` keeps the type; at exact half voxels it
            rounds to one side, which can shift a structure by half a voxel. ``"label"`` keeps the type and
            does not shift: linear interpolation of each label's mask, and the largest weight gives the label
            (islands of a single voxel may be lost).
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
    if len(planes) == 1:  # a single channel needs no stacking, hence no copy
        alone = _resample_plane(planes[0], grid, interpolation, fill, antialias)
        has_channels = volume.array.ndim > volume.spatial_dims
        return Volume.on_grid(alone[np.newaxis] if has_channels else alone, grid)
    out = np.empty((len(planes), *grid.shape), np.float32 if interpolation == "linear" else volume.array.dtype)
    matrices = axis_matrices(volume.grid, grid, fill=fill, antialias=antialias) if interpolation == "linear" else None
    for index, plane in enumerate(planes):
        if matrices is not None:
            _within(plane.array, apply_matrices(plane.array, matrices, out=out[index]))
        else:
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
    matrices = axis_matrices(volume.grid, grid, fill=fill, antialias=antialias)
    if matrices is not None:
        return _within(volume.array, apply_matrices(volume.array, matrices))
    if antialias:
        volume = _blurred(volume, grid)
    return _execute(volume, grid, "linear", fill)


def _execute(volume: Volume, grid: Grid, method: str, fill: float | None) -> npt.NDArray[Any]:
    from resvox.volumes.itk import image_of, sitk

    methods = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(methods[method])
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm[::-1])
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction[:, ::-1].ravel().tolist())
    resampler.SetDefaultPixelValue(0.0 if fill is None else float(fill))
    resampler.SetUseNearestNeighborExtrapolator(fill is None)
    result: npt.NDArray[Any] = sitk.GetArrayFromImage(resampler.Execute(image_of(volume)))
    return result


def axis_matrices(
    source: Grid, target: Grid, *, fill: float | None, antialias: bool
) -> list[npt.NDArray[np.float32]] | None:
    """Blur and linear interpolation as one matrix (target, source) for each axis; None if that is not possible.

    It is possible if the axes of the grids are parallel, as for a change of spacing, and if no target is so far
    outside that it needs ``fill``.
    """
    dims = source.spatial_dims
    start = source.index(target.world_mm([0] * dims))
    steps = (
        source.index(target.world_mm(np.eye(dims))) - start
    )  # row k: step of one target voxel along axis k, in voxels of the source
    longest = max(*source.shape, *target.shape)
    if np.abs(steps - np.diag(np.diag(steps))).max() * longest > PARALLEL:
        return None
    matrices = []
    for axis in range(dims):
        size, step = source.shape[axis], float(steps[axis, axis])
        places = float(start[axis]) + step * np.arange(target.shape[axis], dtype=np.float64)
        if fill is not None and (places.min() < -0.5 + PARALLEL or places.max() > size - 0.5 - PARALLEL):
            return None
        sigma = _sigma_voxels(abs(step)) if antialias and size > 1 else 0.0
        matrices.append(_axis_matrix(size, places, sigma))
    return matrices


def _sigma_voxels(factor: float) -> float:
    """The Gaussian that widens a source voxel to a target voxel ``factor`` times as wide."""
    sigma = math.sqrt(max(factor**2 - 1.0, 0.0)) / HALF_MAXIMUM
    return sigma if sigma >= SMALLEST_SIGMA else 0.0


def _axis_matrix(size: int, places: npt.NDArray[Any], sigma: float) -> npt.NDArray[np.float32]:
    """Rows that take the value at ``places`` of an axis whose edges are repeated."""
    places = np.clip(places, 0, size - 1)
    low = np.clip(np.floor(places).astype(np.intp), 0, max(size - 2, 0))
    second = places - low
    radius = int(4.0 * sigma + 0.5)  # the radius of scipy.ndimage.gaussian_filter1d
    offsets = np.arange(-radius, radius + 1)
    bell = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    bell /= bell.sum()
    matrix = np.zeros((len(places), size))
    rows = np.arange(len(places))
    for offset, part in zip(offsets, bell, strict=True):
        for neighbour, weight in ((low, 1 - second), (low + 1, second)):
            np.add.at(matrix, (rows, np.clip(neighbour + offset, 0, size - 1)), part * weight)
    return matrix.astype(np.float32)


def apply_matrices(
    array: npt.NDArray[Any], matrices: list[npt.NDArray[np.float32]], *, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """An array with each axis multiplied by its matrix (target, source), the axes that shrink most first.

    ``out``: contiguous array for the result; a new one by default.
    """
    array = np.ascontiguousarray(array, np.float32)
    axes = [axis for axis, matrix in enumerate(matrices) if not _is_identity(matrix)]
    axes.sort(key=lambda axis: (len(matrices[axis]) / array.shape[axis], -axis))
    for axis in axes:
        shape = (*array.shape[:axis], len(matrices[axis]), *array.shape[axis + 1 :])
        made = out if out is not None and axis == axes[-1] else np.empty(shape, np.float32)
        _apply_matrix(array, axis, matrices[axis], made)
        array = made
    if out is not None and not axes:
        out[...] = array
    return array


def _within(source: npt.NDArray[Any], made: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Clip interpolated values to the range of the source, which rounding may exceed.

    A clipped intensity must not leave its window.
    """
    low, high = source.min(), source.max()
    # If the source holds NaN, so do the bounds, and nothing is clipped.
    return np.clip(made, low, high, out=made) if made is not source and low <= high else made


def _is_identity(matrix: npt.NDArray[np.float32]) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.float32))


def _apply_matrix(
    array: npt.NDArray[np.float32], axis: int, matrix: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> None:
    """Multiply by a band matrix, cut into blocks of rows with few columns.

    The products are so small that BLAS starts no threads for them, which would wait for each other thousands of times;
    instead, threads started here process planes.
    """
    inner = axis - 1 if axis == array.ndim - 1 else axis
    before, after = math.prod(array.shape[:inner]), math.prod(array.shape[axis + 1 :])
    shape = (array.shape[inner], array.shape[axis]) if inner < axis else (array.shape[axis], after)
    made = (shape[0], len(matrix)) if inner < axis else (len(matrix), after)
    source, target = array.reshape(before, *shape), out.reshape(before, *made)
    blocks = []
    for first in range(0, len(matrix), BAND_ROWS):
        rows = matrix[first : first + BAND_ROWS]
        used = np.flatnonzero(rows.any(axis=0))
        blocks.append((slice(first, first + len(rows)), slice(int(used[0]), int(used[-1]) + 1)))

    def work(plane: int) -> None:
        for rows, columns in blocks:
            if inner < axis:
                np.matmul(source[plane, :, columns], matrix[rows, columns].T, out=target[plane, :, rows])
            else:
                np.matmul(matrix[rows, columns], source[plane, columns], out=target[plane, rows])

    threads = min(usable_threads(), before)
    if threads == 1 or array.size < THREADED_VOXELS:
        for plane in range(before):
            work(plane)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(before)))


def _blurred(volume: Volume, grid: Grid) -> Volume:
    from scipy.ndimage import gaussian_filter1d  # late: it takes longer to import than the rest of this package

    turned = np.abs(volume.grid.direction.T @ grid.direction) * np.asarray(grid.spacing_mm)
    factors = turned.max(axis=1) / np.asarray(volume.spacing_mm)  # size of a target voxel along each source axis
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
    best_weight = np.full(grid.shape, TIE, np.float32)  # the largest weight of a label so far, plus TIE
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
        for slab in _slabs(
            box, out.size // SLABS
        ):  # weights of the whole scan and their intermediate arrays would be gigabytes
            weight = _resample_plane(part, _sub_grid(grid, slab), "linear", None if fill is None else 0.0, False)
            out[slab][weight > best_weight[slab]] = label
            total[slab] += weight
            weight += np.float32(TIE)
            np.maximum(best_weight[slab], weight, out=best_weight[slab])
    total += best_weight
    out[total < 1.0] = background  # the weight of the background, 1 - total, is above that of the best label
    return out


def _slabs(box: tuple[slice, ...], voxels: int) -> list[tuple[slice, ...]]:
    """Pieces of a box along its first axis, each of at most so many voxels but at least one plane."""
    first, *others = box
    plane = math.prod(side.stop - side.start for side in others)
    step = max(1, voxels // plane)
    starts = range(first.start, first.stop, step)
    return [(slice(start, min(start + step, first.stop)), *others) for start in starts]


def _cut(mask: npt.NDArray[np.bool_], bounds: Bounds, grid: Grid) -> Volume:
    """The mask's bounding box with a margin of one voxel, beyond which linear interpolation is 0."""
    start, stop = bounds
    box = tuple(slice(max(a - 1, 0), b + 1) for a, b in zip(start, stop, strict=True))
    part = mask[box].astype(np.float32)
    return Volume.on_grid(
        part,
        _sub_grid(grid, tuple(slice(s.start, s.start + n) for s, n in zip(box, part.shape, strict=True))),
    )


def _reach(bounds: Bounds, source: Grid, target: Grid, *, edge_repeats: bool) -> tuple[slice, ...] | None:
    """The box of target voxels that a mask can reach, or None; so a hundred labels cost little more than one."""
    start, stop = bounds
    if edge_repeats and ((start == 0) | (stop == source.shape)).any():
        return tuple(slice(0, n) for n in target.shape)
    ends = np.stack([start - 1, stop])  # where linear interpolation reaches 0
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
        # the next axes are searched within the bounds of this one
        mask = mask[(slice(None),) * axis + (slice(filled[0], filled[-1] + 1),)]
    bounds = np.array(sides)
    return bounds[:, 0], bounds[:, 1]
