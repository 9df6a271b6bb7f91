"""From a recipe to a resolved residual network for dense prediction: one value per voxel, at the size of the input."""

from __future__ import annotations

from dataclasses import dataclass, field

from resvox.blueprint.blocks import BasicBlock
from resvox.blueprint.choices import NormChoice
from resvox.blueprint.leaves import Activation, Axes, Conv, TransposedConv, is_whole, require
from resvox.blueprint.networks import DenseResNet
from resvox.blueprint.node import Sequence
from resvox.blueprint.resnet_blocks import basic_block
from resvox.blueprint.resnet_recipe import ResNetRecipe


@dataclass(frozen=True, kw_only=True)
class DenseRecipe:
    """All options from which a residual network for dense prediction is resolved.

    Args:
        num_classes: channels of the output.
        depths: basic blocks in each stage.
        widths: channels of each stage. As in a ResNet they double where the size halves, which happens once.
        stride: of the second stage (of the first, where it is the only one); the transposed convolution undoes
            it. 1 or 2 per axis.
        shortcut: ``"projection"`` or ``"zero_pad"``.
    """

    spatial_dims: int
    in_channels: int
    num_classes: int
    stride: Axes
    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 128, 128)
    norm: NormChoice = field(default_factory=NormChoice)
    activation: Activation = field(default_factory=lambda: Activation(kind="relu"))
    shortcut: str = "projection"
    zero_init_residual: bool = False
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(is_whole(self.num_classes, 1), f"num_classes={self.num_classes!r}", "at least 1, values per voxel")
        for name in ("depths", "widths"):
            value = getattr(self, name)
            good = isinstance(value, tuple) and len(value) >= 1 and all(is_whole(n, 1) for n in value)
            require(good, f"{name}={value!r}", "whole numbers of at least 1, one per stage")
        require(
            len(self.depths) == len(self.widths),
            f"depths={self.depths!r} and widths={self.widths!r}",
            "equally many, one per stage",
        )
        good = len(self.stride) == self.spatial_dims and set(self.stride) in ({1, 2}, {2})
        require(good, f"stride={self.stride!r}", "1 or 2 per axis, 2 along at least one")

    @property
    def style(self) -> ResNetRecipe:
        """The options that the blocks share with those of a ResNet: norm, activation, shortcut."""
        return ResNetRecipe(
            spatial_dims=self.spatial_dims,
            in_channels=self.in_channels,
            block="basic",
            depths=(1, 1, 1, 1),
            norm=self.norm,
            activation=self.activation,
            shortcut=self.shortcut,
            zero_init_residual=self.zero_init_residual,
        )


def resolve_dense(recipe: DenseRecipe) -> DenseResNet:
    """The network of a recipe, every number settled."""
    first, last = recipe.widths[0], recipe.widths[-1]
    return DenseResNet(
        conv1=_conv(recipe, (recipe.in_channels, first), 3),
        bn1=recipe.norm.over(first),
        act1=recipe.activation,
        layers=Sequence(items=_stages(recipe)),
        up=Sequence(items=(_transposed(recipe, last, first), recipe.norm.over(first), recipe.activation)),
        head=Sequence(
            items=(
                _conv(recipe, (first, first), 3),
                recipe.norm.over(first),
                recipe.activation,
                _conv(recipe, (first, recipe.num_classes), 1, bias=True),
            )
        ),
        activation=recipe.output_activation,
    )


def resolve_stage(style: ResNetRecipe, in_channels: int, out_channels: int, blocks: int, stride: Axes) -> Sequence:
    """Basic blocks in sequence; the first of them strides and changes the channels."""
    ones = (1,) * style.spatial_dims
    made: list[BasicBlock] = []
    for number in range(blocks):
        channels = in_channels if number == 0 else out_channels
        made.append(basic_block(style, channels, out_channels, stride if number == 0 else ones))
    return Sequence(items=tuple(made))


def _stages(recipe: DenseRecipe) -> tuple[Sequence, ...]:
    ones = (1,) * recipe.spatial_dims
    strided = min(1, len(recipe.depths) - 1)
    channels, stages = recipe.widths[0], []
    for number, (depth, width) in enumerate(zip(recipe.depths, recipe.widths, strict=True)):
        stride = recipe.stride if number == strided else ones
        stages.append(resolve_stage(recipe.style, channels, width, depth, stride))
        channels = width
    return tuple(stages)


def _conv(recipe: DenseRecipe, channels: tuple[int, int], kernel: int, *, bias: bool = False) -> Conv:
    ones = (1,) * recipe.spatial_dims
    return Conv(
        in_channels=channels[0],
        out_channels=channels[1],
        kernel=(kernel,) * recipe.spatial_dims,
        stride=ones,
        padding=(kernel // 2,) * recipe.spatial_dims,
        dilation=ones,
        bias=bias,
        init="uniform_fan_in" if bias else "he_fan_out",
    )


def _transposed(recipe: DenseRecipe, inner: int, outer: int) -> TransposedConv:
    return TransposedConv(
        in_channels=inner,
        out_channels=outer,
        kernel=recipe.stride,
        stride=recipe.stride,
        padding=(0,) * recipe.spatial_dims,
        bias=False,
    )
