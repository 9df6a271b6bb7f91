"""Rules of a model card applied to a label map: components removed, holes filled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from resvox.cards.postprocessing import LabelRule
    from resvox.volumes import Volume

Array = np.ndarray[Any, Any]


def apply_rules(label_map: Volume, rules: Sequence[LabelRule]) -> Volume:
    """The label map (*spatial) after all rules, one after the other; the given one is not changed."""
    array = label_map.array
    for rule in rules:
        array = applied(array, rule, voxel=math.prod(label_map.spacing_mm))
    return label_map.with_array(array)


def applied(array: Array, rule: LabelRule, *, voxel: float) -> Array:
    """A label map (*spatial) after one rule.

    Args:
        voxel: the size of a voxel in mm³, of a pixel in mm².
    """
    mask = array == rule.values[0] if len(rule.values) == 1 else np.isin(array, rule.values)
    box = box_of(mask)
    if box is None:
        return array
    made = array.copy()
    inside, cut = mask[box], made[box]
    kept = kept_components(inside, rule, voxel=voxel) if rule.largest or rule.smallest else inside
    cut[inside & ~kept] = 0
    if rule.holes:
        cut[holes_of(kept) & (cut == 0)] = rule.values[0]
    return made


def kept_components(mask: Array, rule: LabelRule, *, voxel: float) -> Array:
    """The mask without the components that a rule removes."""
    components, sizes = components_of(mask)
    keep = chosen(sizes, rule, voxel=voxel)
    return np.concatenate([[False], keep])[components]


def chosen(sizes: Array, rule: LabelRule, *, voxel: float) -> Array:
    """Which components of these sizes (in voxels) a rule keeps."""
    if not sizes.size:
        return np.zeros(0, bool)
    keep = np.ones(len(sizes), bool)
    if rule.largest:
        keep &= sizes == sizes.max()
    if rule.smallest:
        keep &= sizes * voxel >= rule.smallest
    return keep


def components_of(mask: Array) -> tuple[Array, Array]:
    """The numbers of the components (*spatial), 0 outside, and the size of each in voxels, that of number 1 first."""
    from scipy import ndimage

    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return components, np.bincount(components.ravel(), minlength=count + 1)[1:]


def holes_of(mask: Array) -> Array:
    """The voxels outside a mask that it encloses."""
    from scipy import ndimage

    filled: Array = ndimage.binary_fill_holes(mask)
    return filled & ~mask


def box_of(mask: Array) -> tuple[slice, ...] | None:
    """The smallest box with all voxels of a mask; None for an empty one."""
    slices = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not found.size:
            return None
        slices.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(slices)
