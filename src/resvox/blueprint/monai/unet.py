"""From a recipe to MONAI's UNet, with or without residual units."""

from __future__ import annotations

from dataclasses import dataclass, field

from resvox.blueprint.choices import NormChoice
from resvox.blueprint.leaves import Activation, Axes, Conv, Dropout, is_number, is_whole, require
from resvox.blueprint.monai.networks import (
    ConvUnit,
    MonaiUNet,
    MonaiUNetDecoder,
    MonaiUNetEncoder,
    MonaiUpLevel,
    OutputPaddedConv,
    PReLU,
    ResidualUnit,
)
from resvox.blueprint.node import Sequence


@dataclass(frozen=True, kw_only=True)
class MonaiUNetRecipe:
    """All options from which MONAI's UNet is resolved.

    Args:
        channels: of each level, fine to coarse; the last one is the bottom.
        strides: of each level but the bottom, per axis; those beyond are ignored.
        num_res_units: convolutions of a residual unit; 0: one convolution per level and no residual sums.
        kernel_size, up_kernel_size: odd, per axis, of convolutions and of transposed convolutions.
        norm: None leaves norms out.
        bias: of all convolutions.
        dropout: rate after each norm, in training.
    """

    spatial_dims: int
    in_channels: int
    num_classes: int
    kernel_size: Axes
    up_kernel_size: Axes
    strides: tuple[Axes, ...]
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    num_res_units: int = 2
    norm: NormChoice | None = None
    activation: Activation | PReLU = field(default_factory=PReLU)
    dropout: float = 0.0
    bias: bool = True
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(is_whole(self.num_classes, 1), f"num_classes={self.num_classes!r}", "at least 1 for a segmenter")
        good = isinstance(self.channels, tuple) and len(self.channels) >= 2
        good = good and all(is_whole(each, 1) for each in self.channels)
        require(good, f"channels={self.channels!r}", "at least two whole numbers of at least 1, fine to coarse")
        levels = len(self.channels) - 1
        require(
            len(self.strides) >= levels,
            f"strides={self.strides!r} with channels={self.channels!r}",
            f"{levels}, one per level but the bottom",
        )
        require(is_whole(self.num_res_units, 0), f"num_res_units={self.num_res_units!r}", "a whole number from 0")
        for name in ("kernel_size", "up_kernel_size"):
            odd = all(each % 2 for each in getattr(self, name))
            require(odd, f"{name}={getattr(self, name)!r}", "odd numbers, so that padding is symmetric")
        good = is_number(self.dropout) and 0 <= self.dropout < 1
        require(good, f"dropout={self.dropout!r}", "a number from 0 to below 1")
        require(type(self.bias) is bool, f"bias={self.bias!r}", "True or False")


def resolve_monai_unet(recipe: MonaiUNetRecipe) -> MonaiUNet:
    """The network of a recipe, every number settled."""
    bottom, ones = len(recipe.channels) - 1, (1,) * recipe.spatial_dims
    channels, units = recipe.in_channels, []
    for width, stride in zip(recipe.channels, (*recipe.strides[:bottom], ones), strict=True):
        units.append(_unit(recipe, channels, width, stride))
        channels = width
    below, ups = recipe.channels[-1], []
    for level in range(bottom - 1, 0, -1):
        ups.append(_up(recipe, level, below, recipe.channels[level - 1]))
        below = recipe.channels[level - 1]
    return MonaiUNet(
        encoder=MonaiUNetEncoder(levels=Sequence(items=tuple(units))),
        decoder=MonaiUNetDecoder(levels=Sequence(items=tuple(ups))),
        head=_up(recipe, 0, below, recipe.num_classes, is_top=True),
        supervision=None,
        activation=recipe.output_activation,
    )


def _unit(recipe: MonaiUNetRecipe, inner: int, outer: int, stride: Axes) -> ResidualUnit:
    ones, convs, channels = (1,) * recipe.spatial_dims, [], inner
    for number in range(max(1, recipe.num_res_units)):
        conv = _conv(recipe, channels, outer, recipe.kernel_size, stride if number == 0 else ones)
        convs.append(_conv_unit(recipe, conv))
        channels = outer
    shortcut = None
    strides = max(stride) > 1
    if recipe.num_res_units > 0 and (strides or inner != outer):
        shortcut = _conv(recipe, inner, outer, recipe.kernel_size if strides else ones, stride)
    return ResidualUnit(convs=Sequence(items=tuple(convs)), shortcut=shortcut, adds=recipe.num_res_units > 0)


def _up(recipe: MonaiUNetRecipe, level: int, below: int, outer: int, *, is_top: bool = False) -> MonaiUpLevel:
    kernel, residual = recipe.up_kernel_size, recipe.num_res_units > 0
    deconv = OutputPaddedConv(
        in_channels=recipe.channels[level] + below,
        out_channels=outer,
        kernel=kernel,
        stride=recipe.strides[level],
        padding=tuple(k // 2 for k in kernel),
        bias=recipe.bias,
    )
    unit = None
    if residual:
        # the logits are the sum of a plain convolution and its input
        conv = _conv(recipe, outer, outer, recipe.kernel_size, (1,) * recipe.spatial_dims)
        convs = Sequence(items=(_conv_unit(recipe, conv, plain=is_top),))
        unit = ResidualUnit(convs=convs, shortcut=None, adds=True)
    return MonaiUpLevel(up=_conv_unit(recipe, deconv, plain=is_top and not residual), unit=unit)


def _conv_unit(recipe: MonaiUNetRecipe, conv: Conv | OutputPaddedConv, *, plain: bool = False) -> ConvUnit:
    """A convolution with norm, dropout and activation, or (``plain``) without."""
    return ConvUnit(
        conv=conv,
        norm=recipe.norm.over(conv.out_channels) if recipe.norm and not plain else None,
        dropout=Dropout(rate=float(recipe.dropout)) if recipe.dropout and not plain else None,
        act=None if plain else recipe.activation,
    )


def _conv(recipe: MonaiUNetRecipe, inner: int, outer: int, kernel: Axes, stride: Axes) -> Conv:
    return Conv(
        in_channels=inner,
        out_channels=outer,
        kernel=kernel,
        stride=stride,
        padding=tuple(k // 2 for k in kernel),
        dilation=(1,) * recipe.spatial_dims,
        bias=recipe.bias,
        init="he_fan_out",
    )
