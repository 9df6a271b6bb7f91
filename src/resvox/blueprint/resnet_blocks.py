"""From a recipe and a place in the network to a resolved residual block."""

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
class Place:
    """Where a block stands: its channels, its stride, its dilations and its share of the drop path.

    ``before`` is the dilation before its stage, where it is the first of one.
    """

    channels: int
    width: int
    stride: Axes
    before: Axes
    first_dilation: Axes
    dilation: Axes
    drop_path: float


def block(recipe: ResNetRecipe, place: Place) -> Block:
    """The recipe's kind of block where it stands."""
    return _BLOCKS[recipe.preactivation, recipe.block](recipe, place)


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
    """A convolution that keeps the size but for its stride.

    ``channels``: in and out; ``place``: what the recipe calls it where it says which convolutions have a bias.
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


def _basic(recipe: ResNetRecipe, place: Place) -> BasicBlock:
    out = place.width
    return BasicBlock(
        conv1=conv(recipe, (place.channels, out), 3, stride=place.stride, dilation=place.first_dilation, place="conv1"),
        bn1=recipe.norm.over(out),
        act1=recipe.activation,
        conv2=conv(recipe, (out, out), 3, dilation=place.dilation, place="conv2"),
        bn2=_last_norm(recipe, out),
        se=_squeeze_excitation(recipe, out),
        se_before_norm=recipe.se_placement == "before_norm",
        droppath=_drop_path(place),
        downsample=_downsample(recipe, place, out),
        act2=recipe.activation,
    )


def basic_block(recipe: ResNetRecipe, in_channels: int, out_channels: int, stride: Axes) -> BasicBlock:
    """One basic block outside a ResNet's four stages, in the recipe's style."""
    ones = (1,) * recipe.spatial_dims
    place = Place(
        channels=in_channels,
        width=out_channels,
        stride=stride,
        before=ones,
        first_dilation=ones,
        dilation=ones,
        drop_path=0.0,
    )
    return _basic(recipe, place)


def _bottleneck(recipe: ResNetRecipe, place: Place) -> BottleneckBlock:
    width, out = _inner_width(recipe, place), place.width * recipe.expansion
    late = recipe.stride_on == "conv2"
    return BottleneckBlock(
        conv1=conv(recipe, (place.channels, width), 1, stride=None if late else place.stride, place="conv1"),
        bn1=recipe.norm.over(width),
        act1=recipe.activation,
        conv2=_middle(recipe, place, width, strides=late),
        bn2=recipe.norm.over(width),
        act2=recipe.activation,
        conv3=conv(recipe, (width, out), 1, place="conv3"),
        bn3=_last_norm(recipe, out),
        se=_squeeze_excitation(recipe, out),
        se_before_norm=recipe.se_placement == "before_norm",
        droppath=_drop_path(place),
        downsample=_downsample(recipe, place, out),
        act3=recipe.activation,
    )


def _preact_basic(recipe: ResNetRecipe, place: Place) -> PreActBasicBlock:
    out = place.width
    return PreActBasicBlock(
        norm1=recipe.norm.over(place.channels),
        act1=recipe.activation,
        conv1=conv(recipe, (place.channels, out), 3, stride=place.stride, dilation=place.first_dilation, place="conv1"),
        norm2=recipe.norm.over(out),
        act2=recipe.activation,
        conv2=conv(recipe, (out, out), 3, dilation=place.dilation, init=_last_init(recipe), place="conv2"),
        se=_squeeze_excitation(recipe, out),
        droppath=_drop_path(place),
        downsample=_preact_downsample(recipe, place, out),
    )


def _preact_bottleneck(recipe: ResNetRecipe, place: Place) -> PreActBottleneckBlock:
    width, out = _inner_width(recipe, place), place.width * recipe.expansion
    return PreActBottleneckBlock(
        norm1=recipe.norm.over(place.channels),
        act1=recipe.activation,
        conv1=conv(recipe, (place.channels, width), 1, place="conv1"),
        norm2=recipe.norm.over(width),
        act2=recipe.activation,
        conv2=_middle(recipe, place, width, strides=True),
        norm3=recipe.norm.over(width),
        act3=recipe.activation,
        conv3=conv(recipe, (width, out), 1, init=_last_init(recipe), place="conv3"),
        se=_squeeze_excitation(recipe, out),
        droppath=_drop_path(place),
        downsample=_preact_downsample(recipe, place, out),
    )


_BLOCKS: dict[tuple[bool, str], Callable[[ResNetRecipe, Place], Block]] = {
    (False, "basic"): _basic,
    (False, "bottleneck"): _bottleneck,
    (True, "basic"): _preact_basic,
    (True, "bottleneck"): _preact_bottleneck,
}


def _inner_width(recipe: ResNetRecipe, place: Place) -> int:
    # torchvision's rule, so that 32x4d and the wide nets come out of one formula
    return max(1, int(place.width * recipe.width_per_group / 64)) * recipe.groups


def _middle(recipe: ResNetRecipe, place: Place, width: int, *, strides: bool) -> Conv:
    return conv(
        recipe,
        (width, width),
        3,
        stride=place.stride if strides else None,
        dilation=place.first_dilation,
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


def _drop_path(place: Place) -> DropPath | None:
    return DropPath(rate=place.drop_path) if place.drop_path else None


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
    """Inner channels of a gate."""
    if rounding == "floor":
        return max(1, channels // ratio)
    return max(8, int(channels / ratio + 4) // 8 * 8)  # timm's: the nearest multiple of 8, never below 8


def _changes_shape(place: Place, out: int) -> bool:
    return max(place.stride) > 1 or place.channels != out


def _downsample(recipe: ResNetRecipe, place: Place, out: int) -> Sequence | ZeroPadShortcut | None:
    if not _changes_shape(place, out):
        return None
    if recipe.shortcut == "zero_pad":
        return ZeroPadShortcut(in_channels=place.channels, out_channels=out, stride=place.stride)
    norm = recipe.norm.over(out)
    if not recipe.average_down:
        projection = conv(recipe, (place.channels, out), 1, stride=place.stride, place="downsample")
        return Sequence(items=(projection, norm))
    projection = conv(recipe, (place.channels, out), 1, place="downsample")
    return Sequence(items=(_mean_before(place) or Identity(), projection, norm))


def _preact_downsample(
    recipe: ResNetRecipe, place: Place, out: int
) -> PreActShortcut | ZeroPadShortcut | MaxPool | None:
    if not _changes_shape(place, out):
        return None
    if recipe.stride_block == "last" and place.channels == out:
        ones = (1,) * recipe.spatial_dims
        return MaxPool(kernel=ones, stride=place.stride, padding=(0,) * recipe.spatial_dims)
    if recipe.shortcut == "zero_pad":
        return ZeroPadShortcut(in_channels=place.channels, out_channels=out, stride=place.stride)
    if not recipe.average_down:
        projection = conv(recipe, (place.channels, out), 1, stride=place.stride, place="downsample")
        return PreActShortcut(pool=None, conv=projection)
    projection = conv(recipe, (place.channels, out), 1, place="downsample")
    return PreActShortcut(pool=_mean_before(place), conv=projection)


def _mean_before(place: Place) -> AveragePool | None:
    """The pooling of an averaging shortcut. Where a block dilates instead of striding it still averages, as in timm."""
    kernel = tuple(
        s * (after // before) for s, before, after in zip(place.stride, place.before, place.dilation, strict=True)
    )
    return AveragePool(kernel=kernel, stride=place.stride) if max(kernel) > 1 else None
