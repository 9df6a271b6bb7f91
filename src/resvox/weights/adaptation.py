"""Weights of one shape in a model of another, each change asked for: input channels, the classifier, a third axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint.leaves import Conv, TransposedConv, is_whole
from resvox.errors import WeightsError

Array = npt.NDArray[Any]
Kernel = Conv | TransposedConv

FIRST_CONV = ("error", "sum", "repeat", "first")
CLASSIFIER = ("error", "drop")
INFLATE = (None, "centre", "average")


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What may be changed on the way in.

    Args:
        first_conv: kernels of the first convolution for another number of channels: ``"sum"`` of them shared alike by
            the model's channels, ``"repeat"`` from the first on and scaled to keep the sum, the ``"first"`` ones.
        classifier: ``"drop"`` leaves another head out, and the model's own as it is.
        inflate: a 2D kernel in a 3D model: at the ``"centre"`` of the new axis, or an equal share (``"average"``)
            everywhere along it.
        inflate_axis: the new axis among (D, H, W).
    """

    first_conv: str = "error"
    classifier: str = "error"
    inflate: str | None = None
    inflate_axis: int = 0

    def __post_init__(self) -> None:
        for name, known in (("first_conv", FIRST_CONV), ("classifier", CLASSIFIER), ("inflate", INFLATE)):
            value = getattr(self, name)
            if value not in known:
                raise WeightsError(f"{name}={value!r}", expected=", ".join(map(repr, known)))
        if not is_whole(self.inflate_axis, 0) or self.inflate_axis > 2:
            raise WeightsError(f"inflate_axis={self.inflate_axis!r}", expected="0, 1 or 2: one of (D, H, W)")


def change_channels(kernel: Array, channels: int, rule: str) -> Array:
    """A kernel (out, in, \\*kernel) for another number of input channels.

    ``sum`` and ``repeat`` (for divisible numbers) keep the output for an image with equal values in all channels.

    Raises:
        WeightsError: ``first`` of fewer channels than the model has.
    """
    known = kernel.shape[1]
    if rule == "sum":
        share = kernel.sum(axis=1, keepdims=True, dtype=np.float64) / channels
        return np.repeat(share, channels, axis=1).astype(kernel.dtype)
    if rule == "repeat":
        picked = kernel[:, [index % known for index in range(channels)]]
        return (picked * np.float64(known / channels)).astype(kernel.dtype)
    if channels > known:
        raise WeightsError(
            f"first_conv='first' for {channels} channels from {known}",
            expected=f"at most {known}",
            fix="use first_conv='repeat' or 'sum'",
        )
    return np.ascontiguousarray(kernel[:, :channels])


def inflated(kernel: Array, node: Kernel, rule: str, axis: int) -> Array:
    """A 2D kernel for a 3D layer: it gives the 2D answer where the input does not change along the new axis.

    A plain convolution meets every tap of the new axis once, so one tap of the whole weight or equal shares do. A
    transposed one meets a tap in so many as its stride: that many hold the weight, or the shares are so much larger.
    Where the model's kernel is flat, the weight is taken as it is.
    """
    size = node.kernel[axis]
    meets = node.stride[axis] if isinstance(node, TransposedConv) else 1
    deep = np.expand_dims(kernel, 2 + axis)
    if rule == "average":
        return np.repeat(deep * np.float64(meets / size), size, axis=2 + axis).astype(kernel.dtype)
    wide = np.zeros((*kernel.shape[: 2 + axis], size, *kernel.shape[2 + axis :]), kernel.dtype)
    begin = (size - meets) // 2
    place: list[Any] = [slice(None)] * wide.ndim
    place[2 + axis] = slice(begin, begin + meets)
    wide[tuple(place)] = deep
    return wide
