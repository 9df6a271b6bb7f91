"""From a recipe to a resolved ResNet: stem, stages, head. Its blocks are in ``resnet_blocks.py``."""

from __future__ import annotations

from collections.abc import Iterator

from resvox.blueprint.blocks import Block
from resvox.blueprint.leaves import Conv, GlobalAveragePool, Linear, MaxPool, ZeroPaddedMaxPool
from resvox.blueprint.networks import PreActHead, PreActResNet, PreActStage, PreActStem, ResNet
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.resnet_blocks import BlockPosition, block, conv
from resvox.blueprint.resnet_recipe import ResNetRecipe


def resolve_resnet(recipe: ResNetRecipe) -> ResNet | PreActResNet:
    """The network of a recipe, every number settled."""
    return _preact_resnet(recipe) if recipe.preactivation else _resnet(recipe)


def _resnet(recipe: ResNetRecipe) -> ResNet:
    layers = [Sequence(items=tuple(blocks)) for blocks in _stages(recipe)]
    padded: list[Sequence | None] = [*layers, *[None] * (4 - len(layers))]
    features = recipe.widths[3] * recipe.expansion
    has_top = recipe.num_classes is not None
    stem = _stem_convs(recipe)
    return ResNet(
        conv1=stem[0] if isinstance(stem[0], Conv) and len(stem) == 1 else Sequence(items=tuple(stem)),
        bn1=recipe.norm.over(recipe.stem_width),
        act1=recipe.activation,
        maxpool=_max_pool(recipe),
        layer1=padded[0],
        layer2=padded[1],
        layer3=padded[2],
        layer4=padded[3],
        avgpool=GlobalAveragePool(spatial_dims=recipe.spatial_dims) if has_top else None,
        fc=Linear(in_features=features, out_features=recipe.num_classes) if recipe.num_classes else None,
        activation=recipe.output_activation,
    )


def _preact_resnet(recipe: ResNetRecipe) -> PreActResNet:
    stages = tuple(PreActStage(blocks=Sequence(items=tuple(blocks))) for blocks in _stages(recipe))
    features = recipe.widths[3] * recipe.expansion
    head = None
    if recipe.num_classes is not None:
        fc = Linear(in_features=features, out_features=recipe.num_classes) if recipe.num_classes else None
        head = PreActHead(pool=GlobalAveragePool(spatial_dims=recipe.spatial_dims), fc=fc)
    return PreActResNet(
        stem=_preact_stem(recipe),
        maxpool=_max_pool(recipe),
        stages=Sequence(items=stages),
        norm=recipe.norm.over(features) if head else None,
        act=recipe.activation if head else None,
        head=head,
        activation=recipe.output_activation,
    )


def _stem_convs(recipe: ResNetRecipe) -> list[Node]:
    stride, width = recipe.level_strides[0], recipe.stem_width
    if recipe.stem == "deep":
        half = max(1, width // 2)
        kernel = recipe.stem_kernel or (3,) * recipe.spatial_dims
        return [
            conv(recipe, (recipe.in_channels, half), kernel, stride=stride, place="stem"),
            recipe.norm.over(half),
            recipe.activation,
            conv(recipe, (half, half), kernel, place="stem"),
            recipe.norm.over(half),
            recipe.activation,
            conv(recipe, (half, width), kernel, place="stem"),
        ]
    size = 7 if recipe.stem == "7x7" else 3
    kernel = recipe.stem_kernel or (size,) * recipe.spatial_dims
    return [conv(recipe, (recipe.in_channels, width), kernel, stride=stride, place="stem")]


def _preact_stem(recipe: ResNetRecipe) -> PreActStem:
    nodes = _stem_convs(recipe)
    names = ["conv"] if len(nodes) == 1 else ["conv1", "norm1", "act1", "conv2", "norm2", "act2", "conv3"]
    every = ("conv", "conv1", "norm1", "act1", "conv2", "norm2", "act2", "conv3")
    given = dict(zip(names, nodes, strict=True))
    return PreActStem(**{name: given.get(name) for name in every})  # type: ignore[arg-type]


def _max_pool(recipe: ResNetRecipe) -> MaxPool | None:
    stride = recipe.level_strides[1]
    if recipe.depth < 2 or max(stride) == 1:
        return None
    # kernel 1 along an axis that is not pooled
    kernel = tuple(3 if s > 1 else 1 for s in stride)
    kind = ZeroPaddedMaxPool if recipe.pool_padding == "zeros" else MaxPool
    return kind(kernel=kernel, stride=stride, padding=tuple(k // 2 for k in kernel))


def _stages(recipe: ResNetRecipe) -> Iterator[list[Block]]:
    ones = (1,) * recipe.spatial_dims
    total, done, channels = sum(recipe.depths), 0, recipe.stem_width
    levels = list(recipe.levels())
    # the stride before the first stage is that of the pooling
    strides = [ones, *(level.stride for level in levels[2:]), ones]
    wanted = zip(levels[1 : recipe.depth], recipe.widths, recipe.depths, strict=False)
    for number, (level, width, count) in enumerate(wanted):
        at = 0 if recipe.stride_block == "first" else count - 1
        stride = strides[number if recipe.stride_block == "first" else number + 1]
        blocks: list[Block] = []
        for index in range(count):
            position = BlockPosition(
                channels=channels,
                width=width,
                stride=stride if index == at else ones,
                before=level.before if index == 0 else level.dilation,
                first_dilation=level.first_dilation if index == 0 else level.dilation,
                dilation=level.dilation,
                drop_path=recipe.drop_path * done / max(1, total - 1),
            )
            blocks.append(block(recipe, position))
            channels, done = width * recipe.expansion, done + 1
        yield blocks
