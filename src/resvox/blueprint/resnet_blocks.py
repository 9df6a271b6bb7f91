"""From a recipe and a position in the network to a resolved residual block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resvox.blueprint.blocks import (
    BasicBlock,
    Block,
    BottleneckBlock,
    PreActBasicBlock,
    PreActBottleneckBlock,
    PreActShortcut,
    SqueezeExcitation,
    ZeroPadShortcut,
)
from resvox.blueprint.leaves import (
    Activation,
    AveragePool,
    Axes,
    Conv,
    DropPath,
    Identity,
    MaxPool,
    Norm,
    require,
)
from resvox.blueprint.node import Sequence
from resvox.blueprint.resnet_recipe import ResNetRecipe


@dataclass(frozen=True, kw_only=True)
class BlockPosition:
    """The numbers of a block that depend on its position: channels, stride, dilations and drop path rate.

    ``before``: the dilation of the level above for the first block of a stage.
    """

    channels: int
    width: int
    stride: Axes
    before: Axes
    first_dilation: Axes
    dilation: Axes
    drop_path: float


def block(recipe: ResNetRecipe, position: BlockPosition) -> Block:
    """The block of the recipe's kind at a position."""
    return _BLOCKS[recipe.preactivation, recipe.block](recipe, position)


def conv(
    recipe: ResNetRecipe,
    channels: tuple[int, int],
    kernel: int | Axes,
    *,
    stride: Axes | None = None,
    dilation: Axes | None = None,
    groups: int = 1,
    init: str = "he_fan_out",
    place: str,
) -> Conv:
    """A convolution that changes the size by its stride only.

    ``channels``: in and out; ``place``: its name in the recipe's ``conv_bias``, the convolutions that have a bias.
    """
    dims = recipe.spatial_dims
    sizes = (kernel,) * dims if isinstance(kernel, int) else kernel
    spread = dilation or (1,) * dims
    return Conv(
        in_channels=channels[0],
        out_channels=channels[1],
        kernel=sizes,
        stride=stride or (1,) * dims,
        # A kernel of one voxel reads nothing around it, so dilation must not pad it.
        padding=tuple(d * (k - 1) // 2 for d, k in zip(spread, sizes, strict=True)),
        dilation=tuple(d if k > 1 else 1 for d, k in zip(spread, sizes, strict=True)),
        groups=groups,
        bias=place in recipe.conv_bias,
        init=init,
    )


def _basic(recipe: ResNetRecipe, position: BlockPosition) -> BasicBlock:
    out = position.width
    return BasicBlock(
        conv1=conv(
            recipe, (position.channels, out), 3, stride=position.stride, dilation=position.first_dilation, place="conv1"
        ),
        bn1=recipe.norm.over(out),
        act1=recipe.activation,
        conv2=conv(recipe, (out, out), 3, dilation=position.dilation, place="conv2"),
        bn2=_last_norm(recipe, out),
        se=_squeeze_excitation(recipe, out),
        se_before_norm=recipe.se_placement == "before_norm",
        droppath=_drop_path(position),
        downsample=_downsample(recipe, position, out),
        act2=recipe.activation,
    )


def basic_block(recipe: ResNetRecipe, in_channels: int, out_channels: int, stride: Axes) -> BasicBlock:
    """A basic block with the recipe's norm, activation and shortcut, outside the four stages of a ResNet."""
    ones = (1,) * recipe.spatial_dims
    position = BlockPosition(
        channels=in_channels,
        width=out_channels,
        stride=stride,
        before=ones,
        first_dilation=ones,
        dilation=ones,
        drop_path=0.0,
    )
    return _basic(recipe, position)


def _bottleneck(recipe: ResNetRecipe, position: BlockPosition) -> BottleneckBlock:
    width, out = _inner_width(recipe, position), position.width * recipe.expansion
    late = recipe.stride_on == "conv2"
    return BottleneckBlock(
        conv1=conv(recipe, (position.channels, width), 1, stride=None if late else position.stride, place="conv1"),
        bn1=recipe.norm.over(width),
        act1=recipe.activation,
        conv2=_middle(recipe, position, width, strides=late),
        bn2=recipe.norm.over(width),
        act2=recipe.activation,
        conv3=conv(recipe, (width, out), 1, place="conv3"),
        bn3=_last_norm(recipe, out),
        se=_squeeze_excitation(recipe, out),
        se_before_norm=recipe.se_placement == "before_norm",
        droppath=_drop_path(position),
        downsample=_downsample(recipe, position, out),
        act3=recipe.activation,
    )


def _preact_basic(recipe: ResNetRecipe, position: BlockPosition) -> PreActBasicBlock:
    out = position.width
    return PreActBasicBlock(
        norm1=recipe.norm.over(position.channels),
        act1=recipe.activation,
        conv1=conv(
            recipe, (position.channels, out), 3, stride=position.stride, dilation=position.first_dilation, place="conv1"
        ),
        norm2=recipe.norm.over(out),
        act2=recipe.activation,
        conv2=conv(recipe, (out, out), 3, dilation=position.dilation, init=_last_init(recipe), place="conv2"),
        se=_squeeze_excitation(recipe, out),
        droppath=_drop_path(position),
        downsample=_preact_downsample(recipe, position, out),
    )


def _preact_bottleneck(recipe: ResNetRecipe, position: BlockPosition) -> PreActBottleneckBlock:
    width, out = _inner_width(recipe, position), position.width * recipe.expansion
    return PreActBottleneckBlock(
        norm1=recipe.norm.over(position.channels),
        act1=recipe.activation,
        conv1=conv(recipe, (position.channels, width), 1, place="conv1"),
        norm2=recipe.norm.over(width),
        act2=recipe.activation,
        conv2=_middle(recipe, position, width, strides=True),
        norm3=recipe.norm.over(width),
        act3=recipe.activation,
        conv3=conv(recipe, (width, out), 1, init=_last_init(recipe), place="conv3"),
        se=_squeeze_excitation(recipe, out),
        droppath=_drop_path(position),
        downsample=_preact_downsample(recipe, position, out),
    )


_BLOCKS: dict[tuple[bool, str], Callable[[ResNetRecipe, BlockPosition], Block]] = {
    (False, "basic"): _basic,
    (False, "bottleneck"): _bottleneck,
    (True, "basic"): _preact_basic,
    (True, "bottleneck"): _preact_bottleneck,
}


def _inner_width(recipe: ResNetRecipe, position: BlockPosition) -> int:
    # the rule of torchvision: one formula for 32x4d and the wide networks
    return max(1, int(position.width * recipe.width_per_group / 64)) * recipe.groups


def _middle(recipe: ResNetRecipe, position: BlockPosition, width: int, *, strides: bool) -> Conv:
    return conv(
        recipe,
        (width, width),
        3,
        stride=position.stride if strides else None,
        dilation=position.first_dilation,
        groups=recipe.groups,
        place="conv2",
    )


def _last_norm(recipe: ResNetRecipe, channels: int) -> Norm:
    norm = recipe.norm.over(channels)
    if not recipe.zero_init_residual:
        return norm
    require(
        norm.affine,
        "zero_init_residual with a norm that has no weight",
        "affine=True",
        "leave affine out or set zero_init_residual=False",
    )
    return Norm(
        kind=norm.kind,
        channels=channels,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=True,
        groups=norm.groups,
        initial_weight=0.0,
    )


def _last_init(recipe: ResNetRecipe) -> str:
    return "zeros" if recipe.zero_init_residual else "he_fan_out"


def _drop_path(position: BlockPosition) -> DropPath | None:
    return DropPath(rate=position.drop_path) if position.drop_path else None


def _squeeze_excitation(recipe: ResNetRecipe, channels: int) -> SqueezeExcitation | None:
    if recipe.se_ratio is None:
        return None
    squeezed = squeezed_channels(recipe.se_rounding, channels, recipe.se_ratio)
    ones = (1,) * recipe.spatial_dims
    zeros = (0,) * recipe.spatial_dims

    def dense(inner: int, outer: int) -> Conv:
        return Conv(
            in_channels=inner,
            out_channels=outer,
            kernel=ones,
            stride=ones,
            padding=zeros,
            dilation=ones,
            bias=True,
            init="uniform_fan_in",
        )

    return SqueezeExcitation(
        fc1=dense(channels, squeezed),
        act=recipe.activation,
        fc2=dense(squeezed, channels),
        gate=Activation(kind="sigmoid"),
    )


def squeezed_channels(rounding: str, channels: int, ratio: int) -> int:
    """Inner channels of a squeeze-and-excitation gate."""
    if rounding == "floor":
        return max(1, channels // ratio)
    return max(8, int(channels / ratio + 4) // 8 * 8)  # as in timm: the nearest multiple of 8, at least 8


def _changes_shape(position: BlockPosition, out: int) -> bool:
    return max(position.stride) > 1 or position.channels != out


def _downsample(recipe: ResNetRecipe, position: BlockPosition, out: int) -> Sequence | ZeroPadShortcut | None:
    if not _changes_shape(position, out):
        return None
    if recipe.shortcut == "zero_pad":
        return ZeroPadShortcut(in_channels=position.channels, out_channels=out, stride=position.stride)
    norm = recipe.norm.over(out)
    if not recipe.average_down:
        projection = conv(recipe, (position.channels, out), 1, stride=position.stride, place="downsample")
        return Sequence(items=(projection, norm))
    projection = conv(recipe, (position.channels, out), 1, place="downsample")
    return Sequence(items=(_mean_before(position) or Identity(), projection, norm))


def _preact_downsample(
    recipe: ResNetRecipe, position: BlockPosition, out: int
) -> PreActShortcut | ZeroPadShortcut | MaxPool | None:
    if not _changes_shape(position, out):
        return None
    if recipe.stride_block == "last" and position.channels == out:
        ones = (1,) * recipe.spatial_dims
        return MaxPool(kernel=ones, stride=position.stride, padding=(0,) * recipe.spatial_dims)
    if recipe.shortcut == "zero_pad":
        return ZeroPadShortcut(in_channels=position.channels, out_channels=out, stride=position.stride)
    if not recipe.average_down:
        projection = conv(recipe, (position.channels, out), 1, stride=position.stride, place="downsample")
        return PreActShortcut(pool=None, conv=projection)
    projection = conv(recipe, (position.channels, out), 1, place="downsample")
    return PreActShortcut(pool=_mean_before(position), conv=projection)


def _mean_before(position: BlockPosition) -> AveragePool | None:
    """The pooling of an averaging shortcut. It is kept where a block dilates instead of striding, as in timm."""
    kernel = tuple(
        s * (after // before)
        for s, before, after in zip(position.stride, position.before, position.dilation, strict=True)
    )
    return AveragePool(kernel=kernel, stride=position.stride) if max(kernel) > 1 else None
