"""The same function in fewer operations: what a network that only predicts does not need to compute.

Two rewrites, both exact on paper (in float32 to the last digits):

- A batch norm behind a convolution is one more scale and shift a channel, so it goes into the convolution's weights.
- Enlarging by 2 (nearest) before a 3-wide convolution repeats voxels that the kernel then sums: the two are one
  transposed convolution of width 4 and stride 2, with 8 multiplications a voxel instead of 27 in 3D and no enlarged
  copy. A convolution of two joined maps is the sum of two convolutions, so the map that is joined stays as it is.
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
from resvox.torch.unet import AttentionGate, UNetDecoder, UNetDecoderBlock

NETWORKS = (SegmentationModel, ResNet, PreActResNet, ResNet18_3D)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PLAIN: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
# Which norm takes a convolution's answer and nothing else does: read from the forwards in resvox.torch.
POST_ACTIVATION = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
PRE_ACTIVATION = (("conv1", "norm2"), ("conv2", "norm3"))
PAIRS: tuple[tuple[tuple[type[nn.Module], ...], tuple[tuple[str, str], ...]], ...] = (
    ((BasicBlock, BottleneckBlock, UNetDecoderBlock, ResNet, ResNetBackbone, ResNet18_3D), POST_ACTIVATION),
    ((PreActBasicBlock, PreActBottleneckBlock), PRE_ACTIVATION),
)


def folded(module: nn.Module, *, roi_size: Sequence[int] | None = None) -> nn.Module:
    """A copy for prediction alone, in eval mode, with every batch norm folded that can be; the module stays as it is.

    Args:
        module: a network that resvox built, or any other: parts of a kind that is not known stay as they are.
        roi_size: the one size that windows will have. Where a decoder's levels divide it, nothing is ever cut, so
            enlarging and the convolution behind it become one transposed convolution.
    """
    network = copy.deepcopy(module).eval().requires_grad_(False)
    for (holder, first), (parent, second) in list(_foldable(network)):
        setattr(holder, first, _fused(getattr(holder, first), getattr(parent, second)))
        setattr(parent, second, nn.Identity())
    if isinstance(network, NETWORKS):  # other networks may need what goes in once more
        _activate_in_place(network)
    for part in list(network.modules()):
        if isinstance(part, UNetDecoder) and roi_size and _divides(roi_size, len(part.blocks)):
            _merge_upsampling(part)
    return network


def _activate_in_place(network: nn.Module) -> None:
    """Activations write over their input, which nothing else reads in a network of this package."""
    for part in network.modules():
        if isinstance(part, (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU)):
            part.inplace = True


def without_head(network: nn.Module) -> nn.Module:
    """The network, which then answers with the features before its last layer."""
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
    """How many batch norms of a module `folded` would take away."""
    return sum(1 for _ in _foldable(module))


Place = tuple[nn.Module, str]


def _foldable(network: nn.Module) -> Iterator[tuple[Place, Place]]:
    """Where a convolution and the norm that takes its answer stand: parent and name of each."""
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            names = [name for name, _ in part.named_children()]
            pairs: tuple[tuple[str, str], ...] = tuple(itertools.pairwise(names))
        else:
            pairs = next((names for kinds, names in PAIRS if isinstance(part, kinds)), ())
        for first, second in pairs:
            place = _last(part, first)
            conv, norm = getattr(*place, None), getattr(part, second, None)
            if isinstance(conv, CONVOLUTIONS) and _has_statistics(norm) and not _gated_between(part, second):
                yield place, (part, second)


def _last(parent: nn.Module, name: str) -> Place:
    """A child, or the last of its own children where it is a sequence: a stem of three convolutions."""
    child = getattr(parent, name, None)
    if isinstance(child, nn.Sequential) and len(child):
        return child, str(len(child) - 1)
    return parent, name


def _gated_between(part: nn.Module, norm: str) -> bool:
    """Whether squeeze-and-excitation stands between a convolution and its norm."""
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
    below = 0  # channels that come from the block before; the first block's map is too small to be worth it
    for index, block in enumerate(decoder.blocks):
        assert isinstance(block, UNetDecoderBlock)
        if below and _merges(block, below):
            decoder.blocks[index] = MergedDecoderBlock(block, below)
        last: Any = block.conv1 if isinstance(block.conv2, nn.Identity) else block.conv2
        below = last.out_channels


def _merges(block: UNetDecoderBlock, below: int) -> bool:
    up, conv = block.up, block.conv1
    return (
        isinstance(up, nn.Upsample)
        and up.mode == "nearest"
        and set(_factors(up)) == {2.0}
        and isinstance(conv, CONVOLUTIONS)
        and (conv.in_channels > below) == block.joins
        and conv.groups == 1
        and (set(conv.kernel_size), set(conv.padding), set(conv.stride), set(conv.dilation)) == ({3}, {1}, {1}, {1})
    )


def _factors(up: nn.Upsample) -> tuple[float, ...]:
    factors = up.scale_factor
    return tuple(factors) if isinstance(factors, tuple) else (float(factors or 0),)


class MergedDecoderBlock(nn.Module):
    """A decoder block whose enlarging and first convolution are one transposed convolution.

    For sizes that divide: it enlarges to exactly twice, and cuts nothing.
    """

    def __init__(self, block: UNetDecoderBlock, below: int) -> None:
        super().__init__()
        conv: Any = block.conv1
        dims = conv.weight.ndim - 2
        self.joins = block.joins
        self.gated = isinstance(block.gate, AttentionGate)
        self.gate = block.gate
        self.up = _enlarging(conv.weight[:, :below], conv.bias, dims)
        self.beside = _plain(conv.weight[:, below:], dims) if block.joins else nn.Identity()
        self.bn1, self.act1 = block.bn1, block.act1
        self.conv2, self.bn2, self.act2 = block.conv2, block.bn2, block.act2

    def forward(self, below: Tensor, references: list[Tensor]) -> Tensor:
        x = self.up(below)
        if self.joins:
            skip = self.gate(references[0], below) if self.gated else references[0]
            x = x + self.beside(torch.cat([skip, *references[1:]], 1))
        x = self.act1(self.bn1(x))
        return self.act2(self.bn2(self.conv2(x)))


def _enlarging(weight: Tensor, bias: Tensor | None, dims: int) -> nn.Module:
    """Width 4, stride 2: the kernel, turned round as a transposed convolution wants it, spread by two ones."""
    kernel = weight.flip(tuple(range(2, 2 + dims))).transpose(0, 1).contiguous()
    for axis in range(2, 2 + dims):
        zero = torch.zeros_like(kernel.narrow(axis, 0, 1))
        kernel = torch.cat([kernel, zero], axis) + torch.cat([zero, kernel], axis)
    made = TRANSPOSED[dims](kernel.shape[0], kernel.shape[1], 4, stride=2, padding=1, bias=bias is not None)
    made.weight = nn.Parameter(kernel, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return made


def _plain(weight: Tensor, dims: int) -> nn.Module:
    made = PLAIN[dims](weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return made
