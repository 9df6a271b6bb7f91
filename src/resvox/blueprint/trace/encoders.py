"""Residual networks walked: stem, stages, head."""

from __future__ import annotations

from resvox.blueprint import networks as net
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.dispatch import chain, named, through, visit, visits
from resvox.blueprint.trace.signal import Signal, Tape


def stage_group(stage: Sequence, path: str, signal: Signal, tape: Tape, *, feature_level: int | None = None) -> Signal:
    blocks = "1 block" if len(stage) == 1 else f"{len(stage)} blocks"
    with tape.group(path, f"residual stage of {blocks}", signal, feature_level=feature_level) as out:
        out.append(visit(stage, path, signal, tape))
    return out[0]


def stem_group(node: Node, path: str, signal: Signal, tape: Tape) -> Signal:
    with tape.group(path, "stem convolution", signal) as out:
        out.append(visit(node, path, signal, tape))
    return out[0]


def pyramid(node: net.Encoder, path: str, signal: Signal, tape: Tape) -> list[Signal]:
    return (
        _resnet_pyramid(node, path, signal, tape)
        if isinstance(node, net.ResNet)
        else _preact_pyramid(node, path, signal, tape)
    )


def _resnet_pyramid(node: net.ResNet, path: str, signal: Signal, tape: Tape) -> list[Signal]:
    signal = stem_group(node.conv1, join(path, "conv1"), signal, tape)
    signal = named(node, ("bn1", "act1"), path, "normalization and activation", signal, tape, feature_level=1)
    maps = [signal]
    signal = through(node.maxpool, join(path, "maxpool"), signal, tape)
    for number, layer in enumerate(node.stage_list, start=1):
        signal = stage_group(layer, join(path, f"layer{number}"), signal, tape, feature_level=number + 1)
        maps.append(signal)
    return maps


def _preact_pyramid(node: net.PreActResNet, path: str, signal: Signal, tape: Tape) -> list[Signal]:
    names = ("conv1", "norm1", "act1", "conv2", "norm2", "act2", "conv3") if node.stem.deep else ("conv",)
    with tape.group(join(path, "stem"), "stem convolution", signal, feature_level=1) as out:
        out.append(chain(node.stem, names, join(path, "stem"), signal, tape))
    maps = [out[0]]
    signal = through(node.maxpool, join(path, "maxpool"), out[0], tape)
    for number, blocks in enumerate(node.stage_list):
        signal = stage_group(blocks, join(path, f"stages.{number}.blocks"), signal, tape, feature_level=number + 2)
        maps.append(signal)
    return maps


@visits(net.ResNet)
def _resnet(node: net.ResNet, path: str, signal: Signal, tape: Tape) -> Signal:
    signal = _resnet_pyramid(node, path, signal, tape)[-1]
    return chain(node, ("avgpool", "fc", "activation"), path, signal, tape)


@visits(net.PreActResNet)
def _preact_resnet(node: net.PreActResNet, path: str, signal: Signal, tape: Tape) -> Signal:
    signal = _preact_pyramid(node, path, signal, tape)[-1]
    if node.norm is not None:
        signal = named(node, ("norm", "act"), path, "normalization and activation", signal, tape)
    if node.head is not None:
        signal = chain(node.head, ("pool", "fc"), join(path, "head"), signal, tape)
    return through(node.activation, join(path, "activation"), signal, tape)
