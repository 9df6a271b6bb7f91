"""3-D convolutions on a processor that always take oneDNN.

PyTorch takes its own ``slow_conv3d`` or ``slow_conv_dilated3d`` for small inputs: of a single window where batch x
channels x depth x height is at most 20,480, and for kernels of one voxel on one thread.
"""

from __future__ import annotations

import torch
from torch import nn


class DirectConv3d(nn.Conv3d):
    """A convolution in float32 that calls oneDNN itself; the weights and all else are those of `torch.nn.Conv3d`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(batch, channels, depth, height, width) to the same with other channels and sizes."""
        assert not isinstance(self.padding, str)  # see below
        return torch.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def with_direct_convolutions(network: nn.Module) -> nn.Module:
    """The network with its 3-D convolutions made direct, in place, where this PyTorch has oneDNN."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        for part in network.modules():
            if type(part) is nn.Conv3d and part.padding_mode == "zeros" and not isinstance(part.padding, str):
                part.__class__ = DirectConv3d  # other modules read the weights of their convolutions
    return network
