"""Rewriting a network for prediction: the same function with fewer operations.

Two rewrites, both mathematically exact (in float32 up to rounding):

- A batch norm after a convolution is a scale and a shift per channel, so it is folded into the convolution's weights.
- Nearest upsampling by 2 before a convolution of width 3 repeats voxels that the kernel then sums: together they are
  one transposed convolution of width 4 and stride 2, with 8 multiplications per voxel instead of 27 in 3D and without
  an enlarged copy. The convolution of two concatenated maps is the sum of two convolutions, so the skip keeps an
  ordinary convolution of its own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resvox.torch.blocks import BasicBlock, BottleneckBlock, PreActBasicBlock, PreActBottleneckBlock
from resvox.torch.dense import ResNet18_3D
from resvox.torch.resnet import PreActResNet, ResNet, ResNetBackbone
from resvox.torch.segmentation import SegmentationModel
from resvox.torch.unet import (
    CONVOLUTIONS,
    AttentionGate,
    UNetDecoder,
    UNetDecoderBlock,
    doubles_for,
    merged_kernel,
)

NETWORKS = (SegmentationModel, ResNet, PreActResNet, ResNet18_3D)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PLAIN: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
# Pairs of a convolution and a norm where the norm is the only user of the convolution's output, by resvox.torch.
POST_ACTIVATION = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
PRE_ACTIVATION = (("conv1", "norm2"), ("conv2", "norm3"))
PAIRS: tuple[tuple[tuple[type[nn.Module], ...], tuple[tuple[str, str], ...]], ...] = (
    ((BasicBlock, BottleneckBlock, UNetDecoderBlock, ResNet, ResNetBackbone, ResNet18_3D), POST_ACTIVATION),
    ((PreActBasicBlock, PreActBottleneckBlock), PRE_ACTIVATION),
)


def folded(module: nn.Module, *, roi_size: Sequence[int] | None = None) -> nn.Module:
    """A copy for prediction, in eval mode, with all batch norms folded that can be; the module is not changed.

    Args:
        module: a network of this package or any other; modules of unknown types are left as they are.
        roi_size: the size of all windows. Where the strides of a decoder divide it, no map is cropped, so that
            upsampling and the convolution after it become one transposed convolution.
    """
    network = copy.deepcopy(module).eval().requires_grad_(False)
    for (holder, first), (parent, second) in list(_foldable(network)):
        setattr(holder, first, _fused(getattr(holder, first), getattr(parent, second)))
        setattr(parent, second, nn.Identity())
    if isinstance(network, NETWORKS):  # other networks may use the input of an activation again
        _activate_in_place(network)
    for part in list(network.modules()):
        if isinstance(part, UNetDecoder) and roi_size and _divides(roi_size, len(part.blocks)):
            _merge_upsampling(part)
    return network


def _activate_in_place(network: nn.Module) -> None:
    """Make activations overwrite their input, which no other module of a network of this package uses."""
    for part in network.modules():
        if isinstance(part, (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU)):
            part.inplace = True


def without_head(network: nn.Module) -> nn.Module:
    """The network without its last layer: its outputs are features."""
    network.head = nn.Identity()
    return network


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network with its weights in a precision, in place; running statistics stay in float32, which norms accept."""
    for part in network.modules():
        if not isinstance(part, BATCH_NORMS):
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.to(dtype)
    return network


def _divides(roi_size: Sequence[int], levels: int) -> bool:
    return all(side % 2**levels == 0 for side in roi_size)


def count_folded(module: nn.Module) -> int:
    """The number of batch norms of a module that `folded` removes."""
    return sum(1 for _ in _foldable(module))


Slot = tuple[nn.Module, str]


def _foldable(network: nn.Module) -> Iterator[tuple[Slot, Slot]]:
    """Pairs of a convolution and the norm after it: parent module and attribute name of each."""
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            names = [name for name, _ in part.named_children()]
            pairs: tuple[tuple[str, str], ...] = tuple(itertools.pairwise(names))
        else:
            pairs = next((names for kinds, names in PAIRS if isinstance(part, kinds)), ())
        for first, second in pairs:
            slot = _last(part, first)
            conv, norm = getattr(*slot, None), getattr(part, second, None)
            if isinstance(conv, CONVOLUTIONS) and _has_statistics(norm) and not _gated_between(part, second):
                yield slot, (part, second)


def _last(parent: nn.Module, name: str) -> Slot:
    """The slot of a child, or of the last layer of a child that is a sequence (a stem of three convolutions)."""
    child = getattr(parent, name, None)
    if isinstance(child, nn.Sequential) and len(child):
        return child, str(len(child) - 1)
    return parent, name


def _gated_between(part: nn.Module, norm: str) -> bool:
    """Whether squeeze-and-excitation is between a convolution and its norm."""
    if not isinstance(part, (BasicBlock, BottleneckBlock)) or isinstance(part.se, nn.Identity):
        return False
    return bool(part.se_before_norm) and norm == ("bn2" if isinstance(part, BasicBlock) else "bn3")


def _has_statistics(norm: object) -> bool:
    return isinstance(norm, BATCH_NORMS) and norm.running_mean is not None


def _fused(conv: Any, norm: Any) -> nn.Module:
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return fused.requires_grad_(False)


def _merge_upsampling(decoder: UNetDecoder) -> None:
    below = 0  # channels of the block before; merging does not pay for the first block, whose map is small
    for index, block in enumerate(decoder.blocks):
        assert isinstance(block, UNetDecoderBlock)
        if below and _merges(block, below):
            decoder.blocks[index] = MergedDecoderBlock(block, below)
        last: Any = block.conv1 if isinstance(block.conv2, nn.Identity) else block.conv2
        below = last.out_channels


def _merges(block: UNetDecoderBlock, below: int) -> bool:
    conv: Any = block.conv1
    return doubles_for(block.up, conv) and (conv.in_channels > below) == block.joins


class MergedDecoderBlock(nn.Module):
    """A decoder block whose upsampling and first convolution are one transposed convolution.

    For sizes that the strides divide: it enlarges exactly by 2 and does not crop.
    """

    def __init__(self, block: UNetDecoderBlock, below: int) -> None:
        super().__init__()
        conv: Any = block.conv1
        dims = conv.weight.ndim - 2
        self.joins = block.joins
        self.gated = isinstance(block.gate, AttentionGate)
        self.gate = block.gate
        self.up = _merged_upsampling(conv.weight[:, :below], conv.bias, dims)
        self.skip_conv = _plain(conv.weight[:, below:], dims) if block.joins else nn.Identity()
        self.bn1, self.act1 = block.bn1, block.act1
        self.conv2, self.bn2, self.act2 = block.conv2, block.bn2, block.act2

    def forward(self, below: Tensor, references: list[Tensor]) -> Tensor:
        """The output for the map below and the maps that are joined."""
        x = self.up(below)
        if self.joins:
            skip = self.gate(references[0], below) if self.gated else references[0]
            x = x + self.skip_conv(torch.cat([skip, *references[1:]], 1))
        x = self.act1(self.bn1(x))
        return self.act2(self.bn2(self.conv2(x)))


def _merged_upsampling(weight: Tensor, bias: Tensor | None, dims: int) -> nn.Module:
    kernel = merged_kernel(weight).contiguous()
    made = TRANSPOSED[dims](kernel.shape[0], kernel.shape[1], 4, stride=2, padding=1, bias=bias is not None)
    made.weight = nn.Parameter(kernel, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return made


def _plain(weight: Tensor, dims: int) -> nn.Module:
    made = PLAIN[dims](weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return made
