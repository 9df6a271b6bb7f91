"""Levels, channels and strides of an encoder, read from its resolved tree; and the same encoder with less depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resvox.blueprint.leaves import Axes, Conv, require
from resvox.blueprint.networks import AnyEncoder, Encoder, PreActResNet, ResNet
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.resnet_recipe import multiply


def encoder_depth(encoder: Encoder) -> int:
    """How many levels P1..P<depth> there are."""
    return 1 + len(encoder.stage_list)


def encoder_channels(encoder: Encoder) -> list[int]:
    """Channels of P1..P<depth>."""
    last_blocks = [stage.items[-1] for stage in encoder.stage_list]
    return [_stem(encoder)[-1].out_channels, *(_convs(block)[-1].out_channels for block in last_blocks)]


def encoder_strides(encoder: AnyEncoder) -> list[Axes]:
    """Stride of each level P1..P<depth> relative to the level above it; of P1 relative to the image."""
    if not isinstance(encoder, ResNet | PreActResNet):
        return list(encoder.strides)
    # any block of a stage may stride, and any convolution of a block
    strides = [_stride(_stem(encoder))]
    strides += [_stride([conv for block in stage.items for conv in _convs(block)]) for stage in encoder.stage_list]
    if encoder.maxpool is not None:
        strides[1] = multiply(strides[1], encoder.maxpool.stride)
    return strides


def encoder_reduction(encoder: AnyEncoder) -> Axes:
    """Total stride of the deepest level relative to the image."""
    total = (1,) * len(encoder_strides(encoder)[0])
    for stride in encoder_strides(encoder):
        total = multiply(total, stride)
    return total


def cut_encoder(encoder: Encoder, depth: int) -> Encoder:
    """The encoder that ends at P<depth>, without pooling to a vector and without a classifier.

    Raises:
        BlueprintError: the encoder has fewer levels.
    """
    have = encoder_depth(encoder)
    require(1 <= depth <= have, f"encoder_depth={depth} of an encoder with {have} levels", f"1 to {have}")
    maxpool = encoder.maxpool if depth > 1 else None
    if isinstance(encoder, ResNet):
        layers: dict[str, Any] = {f"layer{number}": None for number in range(depth, 5)}
        return replace(encoder, maxpool=maxpool, **layers, avgpool=None, fc=None, activation=None)
    stages = Sequence(items=encoder.stages.items[: depth - 1])
    return replace(encoder, maxpool=maxpool, stages=stages, norm=None, act=None, head=None, activation=None)


def _stem(encoder: Encoder) -> list[Conv]:
    if not isinstance(encoder, ResNet):
        return _convs(encoder.stem)
    return [encoder.conv1] if isinstance(encoder.conv1, Conv) else _convs(encoder.conv1)


def _convs(node: Node) -> list[Conv]:
    """The convolutions of a node in the order of the forward pass, without those of its shortcut."""
    return [child for _, child in node.children() if isinstance(child, Conv)]


def _stride(convs: list[Conv]) -> Axes:
    total = (1,) * convs[0].spatial_dims
    for conv in convs:
        total = multiply(total, conv.stride)
    return total
