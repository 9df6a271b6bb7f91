"""The U-Net and the attention U-Net. The twin of ``keras/unet.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import SegmentationModel, SupervisionHead, segmenter_blueprint

torch.fx.wrap("cut_to")

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
# Voxels of the map below, over the batch, from which a transposed convolution takes less time than what it equals. On
# a smaller map making its kernel takes longer than is saved (measured on a CPU, 2D and 3D, float32 and bfloat16).
LEAST_MERGED_VOXELS = 512

HALF = (torch.bfloat16, torch.float16)


def merges_on(device: str, dtype: torch.dtype) -> bool:
    """Whether training merges upsampling with the convolution after it on this type of device.

    On an H200 a step of a 3D U-Net takes 20.5 instead of 30.2 ms under bfloat16 autocast; in float32, transposed
    convolutions of CUDA take several times as long as what they replace.
    """
    if device != "cuda":
        return device == "cpu"
    computed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
    return computed in HALF


def merged_kernel(weight: Tensor) -> Tensor:
    """The kernel of the transposed convolution that equals nearest upsampling by 2 and a convolution of width 3.

    A transposed convolution is a convolution with the flipped kernel. Upsampling by 2 repeats every voxel twice, which
    is a convolution with (1, 1) along each axis: kernel (a, b, c) becomes (a, a + b, b + c, c). In 3D this leaves 8
    multiplications per voxel of 27. The gradient flows through the sums to the weight.

    Args:
        weight: (out, in, 3, 3) or (out, in, 3, 3, 3), of a convolution with padding 1.

    Returns:
        (in, out, 4, 4) or (in, out, 4, 4, 4), for stride 2 and padding 1.
    """
    axes = range(2, weight.ndim)
    kernel = weight.flip(tuple(axes)).transpose(0, 1)
    for axis in axes:
        zero = torch.zeros_like(kernel.narrow(axis, 0, 1))
        kernel = torch.cat([kernel, zero], axis) + torch.cat([zero, kernel], axis)
    return kernel


def doubles_for(up: nn.Module, conv: nn.Module) -> bool:
    """Whether nearest upsampling by 2 precedes a plain convolution of width 3, so that `merged_kernel` joins them."""
    if not isinstance(up, nn.Upsample) or not isinstance(conv, CONVOLUTIONS):
        return False
    factors = up.scale_factor if isinstance(up.scale_factor, tuple) else (float(up.scale_factor or 0),)
    shape = (set(conv.kernel_size), set(conv.padding), set(conv.stride), set(conv.dilation))
    is_plain = shape == ({3}, {1}, {1}, {1}) and conv.groups == 1 and conv.padding_mode == "zeros"
    return up.mode == "nearest" and set(factors) == {2.0} and is_plain


class AttentionGate(nn.Module):
    """Weights the voxels of a skip, computed from it and from the map below (arXiv:1804.03999)."""

    def __init__(self, node: net.AttentionGate, spatial_dims: int) -> None:
        super().__init__()
        self.theta = layer(node.theta, spatial_dims)
        self.phi = layer(node.phi, spatial_dims)
        self.act = layer(node.act, spatial_dims)
        self.psi = layer(node.psi, spatial_dims)
        self.gate = layer(node.gate, spatial_dims)
        self.up = layer(node.up, spatial_dims)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        weight = self.gate(self.psi(self.act(self.theta(skip) + self.phi(below))))
        return skip * cut_to(self.up(weight), skip)


class UNetDecoderBlock(nn.Module):
    """One level of the decoder: enlarge, crop to the size of the skip, concatenate, convolve."""

    __constants__ = ("gated", "joins")

    def __init__(self, node: net.UNetDecoderBlock, spatial_dims: int) -> None:
        super().__init__()
        self.joins = node.joins
        self.gated = node.gate is not None
        self.gate = AttentionGate(node.gate, spatial_dims) if node.gate else nn.Identity()
        self.up = layer(node.up, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.bn2 = layer(node.bn2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)

    def forward(self, below: Tensor, references: list[Tensor]) -> Tensor:
        skip = references[0]
        if self.gated:
            skip = self.gate(skip, below)
        joined = [skip] + references[1:]  # noqa: RUF005 (TorchScript has no starred lists)
        x = self.enlarged(below, joined)
        x = self.act1(self.bn1(x))
        return self.act2(self.bn2(self.conv2(x)))

    def enlarged(self, below: Tensor, joined: list[Tensor]) -> Tensor:
        """The output of the first convolution, for the map below and the maps of the size of the output."""
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript leaves out what this condition alone guards)
            if self.training and self._merges(below, joined[0]):
                return self._merged(below, joined)
        x = cut_to(self.up(below), joined[0])
        if self.joins:
            x = torch.cat([x] + joined, 1)  # noqa: RUF005
        return self.conv1(x)

    @torch.jit.unused
    def _merges(self, below: Tensor, skip: Tensor) -> bool:
        """Whether one transposed convolution takes the place of upsampling and convolution in training.

        Not where another would notice: hooks, replaced or wrapped layers, traced and compiled graphs.
        """
        if isinstance(below, torch.fx.Proxy) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        if type(self.up) is not nn.Upsample or type(self.conv1) not in CONVOLUTIONS or _is_hooked(self.up, self.conv1):
            return False
        if below.numel() // below.shape[1] < LEAST_MERGED_VOXELS or not merges_on(below.device.type, below.dtype):
            return False
        is_double = [2 * size for size in below.shape[2:]] == list(skip.shape[2:])
        return is_double and doubles_for(self.up, self.conv1)

    @torch.jit.unused
    def _merged(self, below: Tensor, joined: list[Tensor]) -> Tensor:
        conv: Any = self.conv1
        weight, bias = conv.weight, conv.bias
        transposed, convolve = (F.conv_transpose3d, F.conv3d) if weight.ndim == 5 else (F.conv_transpose2d, F.conv2d)
        channels = below.shape[1]
        x = transposed(below, merged_kernel(weight[:, :channels]), bias, stride=2, padding=1)
        if self.joins:
            x = x + convolve(torch.cat(joined, 1), weight[:, channels:], padding=1)
        return x


def _is_hooked(*layers: nn.Module) -> bool:
    if torch_module._has_any_global_hook():
        return True
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(each, name) for each in layers for name in hooks)


class UNetDecoder(nn.Module):
    """The decoder blocks, deep to shallow."""

    def __init__(self, node: net.UNetDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            UNetDecoderBlock(block, spatial_dims)
            for block in node.blocks.items
            if isinstance(block, net.UNetDecoderBlock)
        )

    def forward(self, image: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """Outputs of all blocks for maps [P1, ..., P<depth>]; the last one has the size of the image."""
        references = [image] + maps  # noqa: RUF005 (TorchScript has no starred lists)
        x = references[-1]
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x, [references[len(references) - 2 - number]])
            outputs.append(x)
        return outputs


class _UNet(SegmentationModel):
    """Common base of the U-Net and the attention U-Net. Abstract."""

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(x, self.encoder(x))

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(output)  # the output of the last block has been cropped to the image


_SPELL = {"decoder": UNetDecoder, "supervision": SupervisionHead}


class UNet(_UNet):
    """U-Net (arXiv:1505.04597) on a residual encoder; any input size from 1 voxel.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.
        encoder: a residual network of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder,
            and its weights are copied.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size. In training
    with ``deep_supervision=True`` a list of them, finest first.

    Raises:
        ValueError: in training with batch norm, a batch with which a norm would get one value per channel.
    """

    def __init__(
        self, model: Blueprint | str = "unet", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        super().__init__(segmenter_blueprint(model, arguments, encoder, net.UNet, "UNet"), _SPELL, encoder)


class AttentionUNet(_UNet):
    """Attention U-Net (arXiv:1804.03999) on a residual encoder: every skip is weighted by the map below it.

    Arguments, inputs, outputs and errors are those of :class:`UNet`.
    """

    def __init__(
        self, model: Blueprint | str = "attention_unet", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        blueprint = segmenter_blueprint(model, arguments, encoder, net.AttentionUNet, "AttentionUNet")
        super().__init__(blueprint, _SPELL, encoder)
