"""From a recipe to a resolved SegResNet or SegResNetDS, with MONAI's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence as Several
from dataclasses import dataclass, field

from resvox.blueprint.blocks import PreActBasicBlock
from resvox.blueprint.choices import NormChoice
from resvox.blueprint.leaves import (
    Activation,
    Axes,
    Conv,
    Dropout,
    TransposedConv,
    Upsample,
    is_number,
    is_whole,
    require,
)
from resvox.blueprint.monai.networks import (
    OutputPaddedConv,
    SegResNet,
    SegResNetDecoder,
    SegResNetDS,
    SegResNetEncoder,
    SegResNetLevel,
    SegResNetUpLevel,
)
from resvox.blueprint.networks import SupervisionHead
from resvox.blueprint.node import Sequence
from resvox.blueprint.resnet_recipe import multiply

UPSAMPLE_MODES = ("nontrainable", "deconv")


@dataclass(frozen=True, kw_only=True)
class SegResNetRecipe:
    """All options from which a SegResNet or SegResNetDS is resolved.

    Args:
        init_filters: channels of the first level; each further level has twice as many.
        blocks_down: blocks of each level of the encoder, fine to coarse.
        blocks_up: blocks of each level of the decoder, deep to shallow; None: one each.
        dropout: rate after the first convolution, in training.
        upsample_mode: of SegResNet: ``"nontrainable"`` (linear interpolation) or ``"deconv"`` (transposed
            convolution). SegResNetDS always learns it.
        resolution: of SegResNetDS, the size of a voxel per axis; kernels and strides are flat along axes that are
            longer, until the voxels of a level are alike.
        dsdepth: of SegResNetDS, how many of the finest levels give logits in training.
    """

    spatial_dims: int
    in_channels: int
    num_classes: int
    init_filters: int
    norm: NormChoice
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    blocks_up: tuple[int, ...] | None = None
    activation: Activation = field(default_factory=lambda: Activation(kind="relu"))
    dropout: float = 0.0
    upsample_mode: str = "nontrainable"
    resolution: tuple[float, ...] | None = None
    dsdepth: int = 1
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(is_whole(self.num_classes, 1), f"num_classes={self.num_classes!r}", "at least 1 for a segmenter")
        require(is_whole(self.init_filters, 1), f"init_filters={self.init_filters!r}", "at least 1")
        good = _whole_numbers(self.blocks_down) and len(self.blocks_down) >= 2
        require(good, f"blocks_down={self.blocks_down!r}", "at least two whole numbers of at least 1, fine to coarse")
        good = self.blocks_up is None or (
            _whole_numbers(self.blocks_up) and len(self.blocks_up) == len(self.blocks_down) - 1
        )
        require(
            good,
            f"blocks_up={self.blocks_up!r} with blocks_down={self.blocks_down!r}",
            f"{len(self.blocks_down) - 1} whole numbers of at least 1, deep to shallow",
        )
        good = is_number(self.dropout) and 0 <= self.dropout < 1
        require(good, f"dropout={self.dropout!r}", "a number from 0 to below 1")
        good = self.upsample_mode in UPSAMPLE_MODES
        require(good, f"upsample_mode={self.upsample_mode!r}", "'nontrainable' or 'deconv'")
        good = is_whole(self.dsdepth, 1) and self.dsdepth < len(self.blocks_down)
        require(good, f"dsdepth={self.dsdepth!r}", f"1 to {len(self.blocks_down) - 1}, levels of the decoder")
        good = self.resolution is None or (
            isinstance(self.resolution, tuple)
            and len(self.resolution) == self.spatial_dims
            and all(is_number(each) and each > 0 for each in self.resolution)
        )
        require(good, f"resolution={self.resolution!r}", f"{self.spatial_dims} numbers above 0, one per axis")

    @property
    def ups(self) -> tuple[int, ...]:
        """Blocks of each level of the decoder, deep to shallow."""
        return self.blocks_up or (1,) * (len(self.blocks_down) - 1)

    @property
    def scales(self) -> tuple[Axes, ...]:
        """By how much each level of the encoder is larger than the next one, per axis."""
        return level_scales(self.resolution, len(self.blocks_down), self.spatial_dims)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(is_whole(each, 1) for each in value)


def level_scales(resolution: tuple[float, ...] | None, levels: int, spatial_dims: int) -> tuple[Axes, ...]:
    """2 per axis and level; with a resolution, 1 along an axis until the voxels of a level are alike."""
    if resolution is None:
        return ((2,) * spatial_dims,) * levels
    longest = max(resolution)
    halvings = [math.floor(math.log2(longest / each)) for each in resolution]
    flat = [tuple(1 if level >= halved else 2 for halved in halvings) for level in range(max(halvings))]
    return tuple((*flat, *((2,) * spatial_dims,) * levels)[:levels])


def resolve_segresnet(recipe: SegResNetRecipe) -> SegResNet:
    """The SegResNet of a recipe, every number settled."""
    last = recipe.init_filters
    return SegResNet(
        encoder=_encoder(recipe),
        decoder=SegResNetDecoder(levels=Sequence(items=tuple(_up(recipe, i) for i in range(len(recipe.ups))))),
        head=Sequence(items=(recipe.norm.over(last), recipe.activation, _head(recipe, last))),
        supervision=None,
        activation=recipe.output_activation,
    )


def resolve_segresnet_ds(recipe: SegResNetRecipe) -> SegResNetDS:
    """The SegResNetDS of a recipe, every number settled."""
    heads, scale = [], (1,) * recipe.spatial_dims
    for level in range(1, recipe.dsdepth):
        scale = multiply(scale, recipe.scales[level - 1])
        conv = _head(recipe, recipe.init_filters * 2**level)
        heads.append(SupervisionHead(conv=conv, up=Upsample(scale=scale, mode="linear")))
    return SegResNetDS(
        encoder=_encoder(recipe),
        decoder=SegResNetDecoder(levels=Sequence(items=tuple(_up_ds(recipe, i) for i in range(len(recipe.ups))))),
        head=_head(recipe, recipe.init_filters),
        supervision=Sequence(items=tuple(heads)) if heads else None,
        activation=recipe.output_activation,
    )


def _encoder(recipe: SegResNetRecipe) -> SegResNetEncoder:
    channels, levels = recipe.init_filters, []
    for level, count in enumerate(recipe.blocks_down):
        down = None
        if level > 0:  # flat along the axes along which the level above it is
            scale = recipe.scales[level - 1]
            down = _conv((channels, 2 * channels), _kernel(scale), stride=scale)
            channels *= 2
        blocks = _blocks(recipe, channels, _kernel(recipe.scales[level]), count)
        levels.append(SegResNetLevel(down=down, blocks=blocks))
    return SegResNetEncoder(
        conv=_conv((recipe.in_channels, recipe.init_filters), _kernel(recipe.scales[0])),
        dropout=Dropout(rate=float(recipe.dropout)) if recipe.dropout else None,
        levels=Sequence(items=tuple(levels)),
    )


def _up(recipe: SegResNetRecipe, number: int) -> SegResNetUpLevel:
    dims = recipe.spatial_dims
    twos, channels = (2,) * dims, recipe.init_filters * 2 ** (len(recipe.ups) - number - 1)
    deconv = TransposedConv(
        in_channels=channels, out_channels=channels, kernel=twos, stride=twos, padding=(0,) * dims, bias=True
    )
    learns = recipe.upsample_mode == "deconv"
    return SegResNetUpLevel(
        conv=_conv((2 * channels, channels), (1,) * dims),
        up=deconv if learns else Upsample(scale=twos, mode="linear"),
        blocks=_blocks(recipe, channels, (3,) * dims, recipe.ups[number]),
    )


def _up_ds(recipe: SegResNetRecipe, number: int) -> SegResNetUpLevel:
    level = len(recipe.ups) - number - 1
    channels, scale = recipe.init_filters * 2**level, recipe.scales[level]
    kernel = _kernel(scale)
    return SegResNetUpLevel(
        conv=None,
        up=OutputPaddedConv(
            in_channels=2 * channels,
            out_channels=channels,
            kernel=kernel,
            stride=scale,
            padding=tuple(k // 2 for k in kernel),
            bias=False,
        ),
        blocks=_blocks(recipe, channels, kernel, recipe.ups[number]),
    )


def _kernel(scale: Axes) -> Axes:
    return tuple(3 if each > 1 else 1 for each in scale)


def _blocks(recipe: SegResNetRecipe, channels: int, kernel: Axes, count: int) -> Sequence:
    block = PreActBasicBlock(
        norm1=recipe.norm.over(channels),
        act1=recipe.activation,
        conv1=_conv((channels, channels), kernel),
        norm2=recipe.norm.over(channels),
        act2=recipe.activation,
        conv2=_conv((channels, channels), kernel),
        se=None,
        droppath=None,
        downsample=None,
    )
    return Sequence(items=(block,) * count)


def _conv(channels: Several[int], kernel: Axes, *, stride: Axes | None = None, bias: bool = False) -> Conv:
    ones = (1,) * len(kernel)
    return Conv(
        in_channels=channels[0],
        out_channels=channels[1],
        kernel=kernel,
        stride=stride or ones,
        padding=tuple(k // 2 for k in kernel),
        dilation=ones,
        bias=bias,
        init="uniform_fan_in" if bias else "he_fan_out",
    )


def _head(recipe: SegResNetRecipe, channels: int) -> Conv:
    return _conv((channels, recipe.num_classes), (1,) * recipe.spatial_dims, bias=True)
