"""nnU-Net's rule for stages: from a patch and its spacing to strides and kernels (doi:10.1038/s41592-020-01008-z)."""

from __future__ import annotations

from resvox.blueprint.leaves import Axes

MIN_EDGE = 4  # voxels: no axis of a map becomes shorter
NEAR = 2.0  # spacings within this factor count as alike


def topology(patch_size: tuple[float, ...], spacing_mm: tuple[float, ...]) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    """Strides and kernels of each stage, fine to coarse; the first stage does not stride.

    An axis is halved while its map keeps 4 voxels and its spacing is within a factor of 2 of the smallest among such
    axes. A kernel is 1 wide along an axis until its spacing is within that factor of the smallest of all, then 3. A
    single axis that remains is halved only while it keeps 6 voxels.

    Args:
        patch_size: voxels per axis; a median of sizes may have halves.
        spacing_mm: per axis, in the same order.
    """
    size: list[float] = list(patch_size)
    spacing, wide = list(spacing_mm), [False] * len(patch_size)
    strides, kernels = [(1,) * len(size)], []
    while True:
        halved = _halved_axes(size, spacing)
        if not halved:
            break
        wide = [was or each / min(spacing) < NEAR for was, each in zip(wide, spacing, strict=True)]
        kernels.append(tuple(3 if each else 1 for each in wide))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(len(size))))
        for axis in halved:
            spacing[axis] *= 2
            size[axis] = -(-size[axis] // 2)
    return tuple(strides), (*kernels, (3,) * len(size))


def _halved_axes(size: list[float], spacing: list[float]) -> list[int]:
    able = [axis for axis, voxels in enumerate(size) if voxels >= 2 * MIN_EDGE]
    finest = min((spacing[axis] for axis in able), default=0.0)
    chosen = [axis for axis in able if spacing[axis] / finest < NEAR]
    return chosen if len(chosen) != 1 or size[chosen[0]] >= 3 * MIN_EDGE else []
