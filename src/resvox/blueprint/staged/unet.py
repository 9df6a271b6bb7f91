"""From a recipe to a resolved network of nnU-Net's kind: residual or plain encoder, residual or plain decoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from resvox.blueprint.blocks import BasicBlock, BottleneckBlock
from resvox.blueprint.choices import NormChoice
from resvox.blueprint.leaves import Activation, AveragePool, Axes, Conv, TransposedConv, Upsample, is_whole, require
from resvox.blueprint.networks import SupervisionHead
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.resnet_recipe import multiply
from resvox.blueprint.staged.networks import (
    PlainUNet,
    ResEncUNet,
    ResidualUNet,
    StagedDecoder,
    StagedEncoder,
    StagedLevel,
    StagedUNet,
)

BLOCKS = ("basic", "bottleneck")
MAX_STAGES = 16
MAX_DEPTH = 256  # blocks of a stage: a tree is made for each


@dataclass(frozen=True, kw_only=True)
class StagedRecipe:
    """All options from which one of nnU-Net's networks is resolved.

    Args:
        residual_encoder: whether stages of the encoder hold residual blocks, behind a convolution at full size.
        residual_decoder: whether levels of the decoder hold residual blocks.
        features: channels of each stage, fine to coarse.
        kernels: per stage, per axis; odd.
        strides: per stage, per axis; the first does not stride.
        depths: residual blocks, or convolutions, of each stage.
        decoder_depths: convolutions, or residual blocks, of each level of the decoder, deepest first.
        block: of the encoder, ``"basic"`` or ``"bottleneck"``.
        bottleneck_channels: inner channels of the bottlenecks of each stage; by default a quarter of its features.
        stem_channels: channels of the convolution at full size; by default those of the first stage.
        conv_bias: whether convolutions have a bias beside their norm.
        deep_supervision: auxiliary logits of the coarser levels, for training.
    """

    spatial_dims: int
    in_channels: int
    num_classes: int
    residual_encoder: bool
    residual_decoder: bool
    features: tuple[int, ...]
    kernels: tuple[Axes, ...]
    strides: tuple[Axes, ...]
    depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    block: str = "basic"
    bottleneck_channels: tuple[int, ...] | None = None
    stem_channels: int | None = None
    conv_bias: bool = True
    norm: NormChoice = field(default_factory=lambda: NormChoice(kind="instance"))
    activation: Activation = field(default_factory=lambda: Activation(kind="leaky_relu", slope=0.01))
    deep_supervision: bool = False
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(self.num_classes >= 1, f"num_classes={self.num_classes!r}", "at least 1 for a segmenter")
        stages = len(self.features)
        require(2 <= stages <= MAX_STAGES, f"features={self.features!r}", f"2 to {MAX_STAGES} numbers, one per stage")
        for name, count in (("kernels", stages), ("strides", stages), ("depths", stages), ("features", stages)):
            self._check_numbers(name, count, f"{stages} entries, one per stage")
        self._check_numbers("decoder_depths", stages - 1, f"{stages - 1} entries, one per level of the decoder")
        deepest = max(self.depths + self.decoder_depths)
        require(deepest <= MAX_DEPTH, f"depths with {deepest} blocks in a stage", f"at most {MAX_DEPTH}")
        require(set(self.strides[0]) == {1}, f"strides={self.strides!r}", "1 first: the first stage has the full size")
        odd = all(size % 2 for kernel in self.kernels for size in kernel)
        require(odd, f"kernels={self.kernels!r}", "odd numbers, so that padding is symmetric")
        require(self.block in BLOCKS, f"block={self.block!r}", "'basic' or 'bottleneck'")
        if self.bottleneck_channels is not None:
            self._check_numbers("bottleneck_channels", stages, f"{stages} entries, one per stage, or None")
            require(self.block == "bottleneck", f"bottleneck_channels with block={self.block!r}", "block='bottleneck'")
        good = self.stem_channels is None or is_whole(self.stem_channels, 1)
        require(good, f"stem_channels={self.stem_channels!r}", "a whole number of at least 1, or None")
        for name in ("conv_bias", "deep_supervision"):
            value = getattr(self, name)
            require(type(value) is bool, f"{name}={value!r}", "True or False")
        good = not self.deep_supervision or stages > 2
        require(good, f"deep_supervision=True with {stages} stages", "at least 3 stages", "there is one level only")

    def _check_numbers(self, name: str, count: int, expected: str) -> None:
        value = getattr(self, name)
        good = isinstance(value, tuple) and len(value) == count
        numbers = [n for each in value for n in (each if isinstance(each, tuple) else (each,))] if good else []
        require(good and all(is_whole(n, 1) for n in numbers), f"{name}={value!r}", f"{expected}, each at least 1")


def resolve_staged(recipe: StagedRecipe) -> StagedUNet:
    """The network of a recipe, every number settled."""
    decoder = StagedDecoder(levels=Sequence(items=tuple(_level(recipe, number) for number in _deep_to_shallow(recipe))))
    head = _conv(recipe.features[0], recipe.num_classes, (1,) * recipe.spatial_dims, norm=False)
    supervision, activation = _supervision(recipe), recipe.output_activation
    encoder = _encoder(recipe)
    if not recipe.residual_encoder:
        return PlainUNet(encoder=encoder, decoder=decoder, head=head, supervision=supervision, activation=activation)
    kind = ResidualUNet if recipe.residual_decoder else ResEncUNet
    return kind(encoder=encoder, decoder=decoder, head=head, supervision=supervision, activation=activation)


def _deep_to_shallow(recipe: StagedRecipe) -> range:
    """The stage whose map each level of the decoder joins."""
    return range(len(recipe.features) - 2, -1, -1)


def _encoder(recipe: StagedRecipe) -> StagedEncoder:
    channels, stem, stages = recipe.in_channels, None, []
    if recipe.residual_encoder:
        first = recipe.stem_channels or recipe.features[0]
        stem = _unit(recipe, channels, first, recipe.kernels[0])
        channels = first
    ones = (1,) * recipe.spatial_dims
    for number, (depth, out, kernel) in enumerate(zip(recipe.depths, recipe.features, recipe.kernels, strict=True)):
        inner = _inner(recipe, number)
        blocks: list[Node] = []
        for place in range(depth):
            stride = recipe.strides[number] if place == 0 else ones
            if recipe.residual_encoder:
                blocks.append(_block(recipe, channels, out, kernel, stride, inner))
            else:
                blocks.append(_unit(recipe, channels, out, kernel, stride))
            channels = out
        stages.append(Sequence(items=tuple(blocks)))
    return StagedEncoder(stem=stem, stages=Sequence(items=tuple(stages)))


def _inner(recipe: StagedRecipe, stage: int) -> int | None:
    """Inner channels of a stage's bottlenecks; None for basic blocks."""
    if recipe.block == "basic":
        return None
    given = recipe.bottleneck_channels
    return given[stage] if given is not None else max(1, recipe.features[stage] // 4)


def _level(recipe: StagedRecipe, stage: int) -> StagedLevel:
    out, kernel = recipe.features[stage], recipe.kernels[stage]
    stride = recipe.strides[stage + 1]
    ones = (1,) * recipe.spatial_dims
    channels = 2 * out
    blocks: list[Node] = []
    for _ in range(recipe.decoder_depths[len(recipe.features) - 2 - stage]):
        if recipe.residual_decoder:
            blocks.append(_block(recipe, channels, out, kernel, ones, None))
        else:
            blocks.append(_unit(recipe, channels, out, kernel))
        channels = out
    up = TransposedConv(
        in_channels=recipe.features[stage + 1],
        out_channels=out,
        kernel=stride,
        stride=stride,
        padding=(0,) * recipe.spatial_dims,
        bias=recipe.conv_bias,
    )
    return StagedLevel(up=up, blocks=Sequence(items=tuple(blocks)))


def _supervision(recipe: StagedRecipe) -> Sequence | None:
    if not recipe.deep_supervision:
        return None
    ones = (1,) * recipe.spatial_dims
    scale, heads = ones, []
    for features, stride in zip(recipe.features[1:-1], recipe.strides[1:-1], strict=True):
        scale = multiply(scale, stride)
        conv = _conv(features, recipe.num_classes, ones, norm=False)
        heads.append(SupervisionHead(conv=conv, up=Upsample(scale=scale, mode="linear")))
    return Sequence(items=tuple(heads))


def _unit(recipe: StagedRecipe, inner: int, outer: int, kernel: Axes, stride: Axes | None = None) -> Sequence:
    """Convolution, norm, activation."""
    conv = _conv(inner, outer, kernel, stride, bias=recipe.conv_bias)
    return Sequence(items=(conv, recipe.norm.over(outer), recipe.activation))


def _block(
    recipe: StagedRecipe, channels: int, out: int, kernel: Axes, stride: Axes, inner: int | None
) -> BasicBlock | BottleneckBlock:
    """A residual block; ``inner``: the channels of a bottleneck, None for a basic block."""
    shortcut = _shortcut(recipe, channels, out, stride)
    norm, act, bias = recipe.norm, recipe.activation, recipe.conv_bias
    if inner is None:
        return BasicBlock(
            conv1=_conv(channels, out, kernel, stride, bias=bias),
            bn1=norm.over(out),
            act1=act,
            conv2=_conv(out, out, kernel, bias=bias),
            bn2=norm.over(out),
            se=None,
            se_before_norm=False,
            droppath=None,
            downsample=shortcut,
            act2=act,
        )
    ones = (1,) * recipe.spatial_dims
    return BottleneckBlock(
        conv1=_conv(channels, inner, ones, bias=bias),
        bn1=norm.over(inner),
        act1=act,
        conv2=_conv(inner, inner, kernel, stride, bias=bias),
        bn2=norm.over(inner),
        act2=act,
        conv3=_conv(inner, out, ones, bias=bias),
        bn3=norm.over(out),
        se=None,
        se_before_norm=False,
        droppath=None,
        downsample=shortcut,
        act3=act,
    )


def _shortcut(recipe: StagedRecipe, channels: int, out: int, stride: Axes) -> Sequence | None:
    """Average pooling where a block strides, a convolution of one voxel where channels change; None for neither."""
    items: list[Node] = []
    if max(stride) > 1:
        items.append(AveragePool(kernel=stride, stride=stride))
    if channels != out:
        items += [_conv(channels, out, (1,) * len(stride)), recipe.norm.over(out)]
    return Sequence(items=tuple(items)) if items else None


def _conv(
    inner: int, outer: int, kernel: Axes, stride: Axes | None = None, *, bias: bool = False, norm: bool = True
) -> Conv:
    """A convolution; ``norm``: whether a norm follows it."""
    ones = (1,) * len(kernel)
    return Conv(
        in_channels=inner,
        out_channels=outer,
        kernel=kernel,
        stride=stride or ones,
        padding=tuple((size - 1) // 2 for size in kernel),
        dilation=ones,
        bias=bias or not norm,
        init="he_fan_out" if norm else "uniform_fan_in",
    )
