"""``resample_torch_fornnunet`` of nnU-Net v2: linear interpolation of torch, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.preprocessing.nnunet.resampling import Resampling
from resvox.preprocessing.steps import Array

if TYPE_CHECKING:
    import torch

SURE = 700  # of 1000: a mask above this decides at once
MODES = {2: "bilinear", 3: "trilinear"}


def resized_by_torch(
    array: Array, shape: Sequence[int], rule: Resampling, axis: int | None, *, labels: bool = False
) -> Array:
    """(channels, D, H, W) at another shape: float32, or the dtype of labels.

    Args:
        array: images, logits or (1, D, H, W) labels.
        shape: the new (D, H, W).
        rule: with method "torch".
        axis: the axis that is resampled on its own by the nearest voxel.
        labels: whether the values are labels, which are not mixed.
    """
    import torch

    move = _labels if labels else _linear
    values = torch.from_numpy(np.ascontiguousarray(array))
    if axis is None:
        made = move(values, shape, rule, MODES[3])
    else:
        inner = [size for place, size in enumerate(shape) if place != axis]
        planes = values.movedim(1 + axis, 1)
        flat = move(planes.reshape(-1, *planes.shape[2:]), inner, rule, MODES[2])
        planes = flat.reshape(len(values), -1, *inner).movedim(1, 1 + axis).contiguous()
        made = move(planes, shape, rule, "nearest-exact")
    out: Array = made.numpy()
    return out.astype(array.dtype) if labels else out


def _linear(values: torch.Tensor, shape: Sequence[int], rule: Resampling, mode: str) -> torch.Tensor:
    from torch.nn import functional

    if tuple(values.shape[1:]) == tuple(shape):
        return values
    return functional.interpolate(values[None].float(), tuple(shape), mode=mode, antialias=False)[0]


def _labels(values: torch.Tensor, shape: Sequence[int], rule: Resampling, mode: str) -> torch.Tensor:
    import torch
    from torch.nn import functional

    if tuple(values.shape[1:]) == tuple(shape):
        return values
    found = torch.unique(values)
    result = torch.zeros((len(values), *shape), dtype=torch.int16)
    if rule.less_memory:
        for label in found:
            mask = functional.interpolate((values[None] == label).float(), tuple(shape), mode=mode, antialias=False)[0]
            result[mask > 0.5] = label.to(result.dtype)
        return result
    masks = torch.empty((len(found), len(values), *shape), dtype=torch.float16)
    done = torch.zeros_like(result, dtype=torch.bool)
    for place, label in zip(masks, found, strict=True):
        own = (values[None] == label).float() * 1000
        place.copy_(functional.interpolate(own, tuple(shape), mode=mode, antialias=False)[0])
        sure = place > SURE
        result[sure] = label.to(result.dtype)
        done |= sure
    if not bool(done.all()):
        result[~done] = found[masks[:, ~done].argmax(0)].to(result.dtype)
    return result
