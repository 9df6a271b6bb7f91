"""A convolution whose weight gradient PyTorch computes wrongly on some processors, in a form that is safe."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

FEWEST_CHANNELS = 8


class SlicedConv2d(nn.Conv2d):
    """A convolution of 1x1 pixels with a stride: the pixels that it reads are taken first, then convolved."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width), channels last."""
        rows, columns = self.stride
        read = input[:, :, ::rows, ::columns].contiguous(memory_format=torch.channels_last)
        return F.conv2d(read, self.weight, self.bias, groups=self.groups)


def slice_narrow_shortcuts(module: nn.Module) -> None:
    """Make the narrow convolutions of 1x1 pixels with a stride in a network sliced ones, in place.

    On a processor with AVX2 and without AVX-512, PyTorch 2.13 writes beyond its memory in the weight gradient of such a
    convolution with channels last and fewer than 8 input channels, as in the shortcut of a very narrow ResNet: the
    process crashes sooner or later. It is done on every processor, so that a run goes on alike on another one.
    """
    for part in module.modules():
        if type(part) is nn.Conv2d and _reads_some_pixels(part) and part.in_channels // part.groups < FEWEST_CHANNELS:
            part.__class__ = SlicedConv2d  # the same parameters; only the computation differs


def _reads_some_pixels(part: nn.Conv2d) -> bool:
    """Whether the kernel is 1x1 pixels and has a stride."""
    return part.kernel_size == (1, 1) and max(part.stride) > 1 and part.padding == (0, 0)
