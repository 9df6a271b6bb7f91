"""From a recipe to a resolved U-Net, with or without attention gates: an encoder of some depth and its decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from resvox.blueprint.choices import NormChoice
from resvox.blueprint.encoders import encoder_channels, encoder_depth, encoder_strides
from resvox.blueprint.leaves import Activation, Axes, Conv, TransposedConv, Upsample, is_whole, require
from resvox.blueprint.networks import (
    AttentionGate,
    AttentionUNet,
    Encoder,
    SupervisionHead,
    UNet,
    UNetDecoder,
    UNetDecoderBlock,
)
from resvox.blueprint.node import Sequence
from resvox.blueprint.resnet_recipe import multiply

BLOCK_TYPES = ("upsampling", "transpose")


@dataclass(frozen=True, kw_only=True)
class UNetRecipe:
    """All options from which a U-Net, an attention U-Net or a UNet++ is resolved.

    Args:
        encoder: resolved, without a head; it has as many levels as the decoder has blocks.
        filters: channels of the decoder blocks, deepest first; those beyond the depth are ignored.
        block_type: ``"upsampling"`` (interpolate, then two convolutions) or ``"transpose"`` (transposed
            convolution, then one).
        interpolation: ``"nearest"`` or ``"linear"``.
        transpose_kernel: kernel of the transposed convolution along an axis that doubles, 4 or 2; along another axis
            the kernel is the stride.
        norm: ``None`` leaves the norm out and gives the convolutions a bias.
        deep_supervision: auxiliary logits of the coarser levels, for training.
    """

    encoder: Encoder
    num_classes: int
    filters: tuple[int, ...] = (256, 128, 64, 32, 16)
    block_type: str = "upsampling"
    interpolation: str = "nearest"
    transpose_kernel: int = 4
    norm: NormChoice | None = field(default_factory=NormChoice)
    activation: Activation = field(default_factory=lambda: Activation(kind="relu"))
    head_kernel: int = 1
    deep_supervision: bool = False
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(self.num_classes >= 1, f"num_classes={self.num_classes!r}", "at least 1 for a segmenter")
        depth = encoder_depth(self.encoder)
        good = isinstance(self.filters, tuple) and len(self.filters) >= depth
        good = good and all(is_whole(width, 1) for width in self.filters)
        require(
            good,
            f"decoder_filters={self.filters!r} with encoder_depth={depth}",
            f"at least {depth} numbers, each at least 1, deepest first",
        )
        require(
            self.block_type in BLOCK_TYPES,
            f"decoder_block_type={self.block_type!r}",
            "'upsampling' or 'transpose'",
        )
        require(
            self.interpolation in ("nearest", "linear"),
            f"decoder_interpolation={self.interpolation!r}",
            "'nearest' or 'linear'",
        )
        good = is_whole(self.transpose_kernel, 2) and self.transpose_kernel in (2, 4)
        require(good, f"decoder_transpose_kernel={self.transpose_kernel!r}", "2 or 4")
        good = is_whole(self.head_kernel, 1) and self.head_kernel in (1, 3)
        require(good, f"head_kernel={self.head_kernel!r}", "1 or 3")
        good = type(self.deep_supervision) is bool
        require(good, f"deep_supervision={self.deep_supervision!r}", "True or False")
        good = not self.deep_supervision or depth > 1
        require(good, "deep_supervision=True with encoder_depth=1", "a depth of at least 2", "there is one level only")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(encoder_strides(self.encoder)[0])


def resolve_unet(recipe: UNetRecipe) -> UNet:
    """The U-Net of a recipe, every number settled."""
    blocks = tuple(_decoder_blocks(recipe, gated=False))
    return UNet(
        encoder=recipe.encoder,
        decoder=UNetDecoder(blocks=Sequence(items=blocks)),
        head=head_of(recipe, blocks[-1].conv1.out_channels),
        supervision=_supervision(recipe, blocks),
        activation=recipe.output_activation,
    )


def resolve_attention_unet(recipe: UNetRecipe) -> AttentionUNet:
    """The attention U-Net of a recipe, every number settled."""
    blocks = tuple(_decoder_blocks(recipe, gated=True))
    return AttentionUNet(
        encoder=recipe.encoder,
        decoder=UNetDecoder(blocks=Sequence(items=blocks)),
        head=head_of(recipe, blocks[-1].conv1.out_channels),
        supervision=_supervision(recipe, blocks),
        activation=recipe.output_activation,
    )


def _decoder_blocks(recipe: UNetRecipe, *, gated: bool) -> Iterator[UNetDecoderBlock]:
    widths, scales = encoder_channels(recipe.encoder), encoder_strides(recipe.encoder)
    skips = [0, *widths[:-1]]  # the shallowest block has no skip: the image is not a feature map
    channels = widths[-1]
    # deepest first: block k enlarges by the stride of its level and joins the level above
    for scale, skip, out in zip(reversed(scales), reversed(skips), recipe.filters, strict=False):
        gate = _gate(recipe, channels, skip, out, scale) if gated and skip else None
        yield decoder_block(recipe, channels, skip, out, scale, gate)
        channels = out


def _gate(recipe: UNetRecipe, channels: int, skip: int, inner: int, scale: Axes) -> AttentionGate:
    dims = len(scale)
    return AttentionGate(
        theta=_conv(dims, skip, inner, 1, bias=True, stride=scale),
        phi=_conv(dims, channels, inner, 1, bias=True),
        act=Activation(kind="relu"),
        psi=_conv(dims, inner, 1, 1, bias=True),
        gate=Activation(kind="sigmoid"),
        up=Upsample(scale=scale, mode=recipe.interpolation),
    )


def _supervision(recipe: UNetRecipe, blocks: tuple[UNetDecoderBlock, ...]) -> Sequence | None:
    if not recipe.deep_supervision:
        return None
    scale, heads = (1,) * recipe.spatial_dims, []
    # from the last block but one, which is one stride of the encoder below the image, to the deepest
    for block, stride in zip(reversed(blocks[:-1]), encoder_strides(recipe.encoder), strict=False):
        scale = multiply(scale, stride)
        conv = head_of(recipe, block.conv1.out_channels)
        heads.append(SupervisionHead(conv=conv, up=Upsample(scale=scale, mode="linear")))
    return Sequence(items=tuple(heads))


def head_of(recipe: UNetRecipe, channels: int) -> Conv:
    """The convolution from features to classes."""
    return _conv(recipe.spatial_dims, channels, recipe.num_classes, recipe.head_kernel, bias=True)


def _conv(dims: int, inner: int, outer: int, kernel: int, *, bias: bool, stride: Axes | None = None) -> Conv:
    ones = (1,) * dims
    return Conv(
        in_channels=inner,
        out_channels=outer,
        kernel=(kernel,) * dims,
        stride=stride or ones,
        padding=(kernel // 2,) * dims,
        dilation=ones,
        bias=bias,
        init="uniform_fan_in" if bias else "he_fan_out",
    )


def decoder_block(
    recipe: UNetRecipe, channels: int, skip: int, out: int, scale: Axes, gate: AttentionGate | None = None
) -> UNetDecoderBlock:
    """One level of the decoder: ``channels`` from below are enlarged by ``scale`` and join ``skip`` channels."""
    dims, norm, act = len(scale), recipe.norm, recipe.activation
    bias = norm is None
    transposes = recipe.block_type == "transpose"
    enlarged = out if transposes else channels
    return UNetDecoderBlock(
        gate=gate,
        up=transpose(recipe, channels, out, scale) if transposes else _interpolate(recipe, scale),
        joins=skip > 0,
        conv1=_conv(dims, enlarged + skip, out, 3, bias=bias),
        bn1=norm.over(out) if norm else None,
        act1=act,
        conv2=None if transposes else _conv(dims, out, out, 3, bias=bias),
        bn2=norm.over(out) if norm and not transposes else None,
        act2=None if transposes else act,
    )


def _interpolate(recipe: UNetRecipe, scale: Axes) -> Upsample:
    return Upsample(scale=scale, mode=recipe.interpolation)


def transpose(recipe: UNetRecipe, channels: int, out: int, scale: Axes) -> Sequence:
    """Learned upsampling: transposed convolution, norm and activation."""
    # kernel 4, stride 2, padding 1 covers every output voxel twice per axis (no checkerboard); kernel = stride once
    kernel = tuple(4 if s == 2 and recipe.transpose_kernel == 4 else s for s in scale)
    up = TransposedConv(
        in_channels=channels,
        out_channels=out,
        kernel=kernel,
        stride=scale,
        padding=tuple((k - s) // 2 for k, s in zip(kernel, scale, strict=True)),
        bias=True,
    )
    norm = (recipe.norm.over(out),) if recipe.norm else ()
    return Sequence(items=(up, *norm, recipe.activation))
