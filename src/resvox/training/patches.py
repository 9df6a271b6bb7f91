"""Patches: around which voxel, cut out and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from resvox.inference.windows import padding
from resvox.training.augmentation import Augmentation
from resvox.training.augmentation.geometry import Geometry
from resvox.training.batches import epoch_order
from resvox.training.plans.patch import PatchPlan
from resvox.training.randomness import Purpose, generator


class HasImage(Protocol):
    """A prepared case of which patches are cut."""

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """The array (channels, *spatial)."""


Case = TypeVar("Case", bound=HasImage)


@dataclass(frozen=True, kw_only=True)
class PatchDraw(Generic[Case]):
    """What a sample is cut from, and ``rng``, which goes on to its augmentation."""

    case: Case
    centre: tuple[int, ...]
    patch: tuple[int, ...]
    geometry: Geometry
    stride: int
    rng: np.random.Generator

    def cut(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The patch of an array (channels, *spatial) of the case, with the margin that its geometry needs."""
        return cut_strided(array, self.centre, self.patch, self.geometry.size, self.stride)


def draw_patch(cases: Sequence[Case], plan: PatchPlan, augmentation: Augmentation, number: int) -> PatchDraw[Case]:
    """A patch from anywhere for sample ``number``; every case comes once before any comes twice."""
    step, position = divmod(number, plan.batch_size)
    rng = generator(plan.seed, Purpose.SAMPLE, step, position)
    epoch, place = divmod(number, len(cases))
    case = cases[epoch_order(plan.seed, epoch, len(cases))[place]]
    stride = drawn_stride(plan.patch_stride, rng)
    centre = any_centre(case.image.shape[1:], [stride * n for n in plan.patch_size], rng)
    geometry = augmentation.draw(rng)
    return PatchDraw(case=case, centre=centre, patch=plan.patch_size, geometry=geometry, stride=stride, rng=rng)


def any_centre(shape: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    """Uniform over the patches that fit, not over voxels: borders are not seen more often than the middle.

    Args:
        patch: voxels of the array that a patch covers: with a stride, so many times its size.
    """
    starts = [int(rng.integers(max(1, n - p + 1))) for n, p in zip(shape, patch, strict=True)]
    return tuple(start + p // 2 for start, p in zip(starts, patch, strict=True))


def cut_patch(
    array: np.ndarray[Any, Any], centre: Sequence[int], patch: Sequence[int], size: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Cut (channels, *size) around the patch that lies as near to ``centre`` as the array allows.

    A patch longer than the array is padded with 0 on both sides, the way `sliding_window_inference` pads; so
    is what ``size`` (larger than ``patch``: the margin a rotation needs) reaches beyond the array.
    """
    out = np.zeros((array.shape[0], *size), dtype=array.dtype)
    source, target = [slice(None)], [slice(None)]
    before = padding(array.shape[1:], patch)
    for axis, (n, p, s) in enumerate(zip(array.shape[1:], patch, size, strict=True)):
        start = -before[axis][0] if n < p else min(max(centre[axis] - p // 2, 0), n - p)
        start -= (s - p) // 2
        source.append(slice(max(start, 0), min(start + s, n)))
        target.append(slice(max(-start, 0), max(-start, 0) + source[-1].stop - source[-1].start))
    out[tuple(target)] = array[tuple(source)]
    return out


def drawn_stride(largest: int, rng: np.random.Generator) -> int:
    """The distance between neighbouring voxels of a patch: from 1 to ``largest``, each with the same chance."""
    return int(rng.integers(1, largest + 1)) if largest > 1 else 1


def cut_strided(
    array: np.ndarray[Any, Any],
    centre: Sequence[int],
    patch: Sequence[int],
    size: Sequence[int],
    stride: int,
    *,
    is_label: bool = False,
) -> np.ndarray[Any, Any]:
    """`cut_patch` of a region ``stride`` times as long along each axis, brought to the same number of voxels.

    Args:
        is_label: of ``stride`` voxels take the middle one instead of their mean: the voxel next above the middle of the
            block, half a voxel off, for an even stride.
    """
    if stride == 1:
        return cut_patch(array, centre, patch, size)
    region = cut_patch(array, centre, [stride * n for n in patch], [stride * n for n in size])
    if is_label:
        return region[(slice(None), *[slice(stride // 2, None, stride)] * len(size))]
    blocks = region.reshape(len(region), *(part for n in size for part in (n, stride)))
    mean: np.ndarray[Any, Any] = blocks.mean(axis=tuple(range(2, blocks.ndim, 2)), dtype=np.float32)
    return mean.astype(array.dtype, copy=False)
