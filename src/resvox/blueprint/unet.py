"""From a recipe to a resolved U-Net: an encoder cut where its depth ends, a decoder that mirrors its strides."""

from __future__ import annotations

from dataclasses import dataclass, field

from resvox.blueprint.choices import NormChoice
from resvox.blueprint.encoders import encoder_channels, encoder_depth, encoder_strides
from resvox.blueprint.leaves import Activation, Axes, Conv, TransposedConv, Upsample, is_whole, require
from resvox.blueprint.networks import Encoder, UNet, UNetDecoder, UNetDecoderBlock
from resvox.blueprint.node import Sequence

BLOCK_TYPES = ("upsampling", "transpose")


@dataclass(frozen=True, kw_only=True)
class UNetRecipe:
    """Everything a U-Net is resolved from.

    Args:
        encoder: resolved, without a head; its levels are as many as the decoder's blocks.
        filters: channels of the decoder blocks, deepest first; those beyond the depth are left out.
        block_type: ``"upsampling"`` (interpolate, then two convolutions) or ``"transpose"`` (transposed
            convolution, then one).
        interpolation: ``"nearest"`` or ``"linear"``.
        transpose_kernel: 4 or 2 times the half stride: kernel ``transpose_kernel`` where an axis doubles.
        norm: ``None`` leaves the norm out and gives the convolutions a bias.
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


def resolve_unet(recipe: UNetRecipe) -> UNet:
    """The network of a recipe, every number settled."""
    widths, scales = encoder_channels(recipe.encoder), encoder_strides(recipe.encoder)
    skips = [0, *widths[:-1]]  # the shallowest block joins nothing: the image itself is no feature map
    channels, blocks = widths[-1], []
    # deepest first: block k enlarges by the stride that made its level and joins the level above
    for scale, skip, out in zip(reversed(scales), reversed(skips), recipe.filters, strict=False):
        blocks.append(_decoder_block(recipe, channels, skip, out, scale))
        channels = out
    return UNet(
        encoder=recipe.encoder,
        decoder=UNetDecoder(blocks=Sequence(items=tuple(blocks))),
        head=_conv(len(scales[0]), channels, recipe.num_classes, recipe.head_kernel, bias=True),
        activation=recipe.output_activation,
    )


def _conv(dims: int, inner: int, outer: int, kernel: int, *, bias: bool) -> Conv:
    ones = (1,) * dims
    return Conv(
        in_channels=inner,
        out_channels=outer,
        kernel=(kernel,) * dims,
        stride=ones,
        padding=(kernel // 2,) * dims,
        dilation=ones,
        bias=bias,
        init="uniform_fan_in" if bias else "he_fan_out",
    )


def _decoder_block(recipe: UNetRecipe, channels: int, skip: int, out: int, scale: Axes) -> UNetDecoderBlock:
    dims, norm, act = len(scale), recipe.norm, recipe.activation
    bias = norm is None
    transposes = recipe.block_type == "transpose"
    enlarged = out if transposes else channels
    return UNetDecoderBlock(
        up=_transpose(recipe, channels, out, scale) if transposes else _interpolate(recipe, scale),
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


def _transpose(recipe: UNetRecipe, channels: int, out: int, scale: Axes) -> Sequence:
    # kernel 4, stride 2, padding 1 covers every output voxel twice (no checkerboard); kernel = stride once
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
