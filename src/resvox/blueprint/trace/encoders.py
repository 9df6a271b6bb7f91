"""Tracing of residual networks: stem, stages, head."""

from __future__ import annotations

from resvox.blueprint import networks as net
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.dispatch import trace_children, trace_group, trace_node, trace_optional, traces
from resvox.blueprint.trace.recording import FeatureMap, Recorder


def stage_group(
    stage: Sequence, path: str, feature_map: FeatureMap, recorder: Recorder, *, feature_level: int | None = None
) -> FeatureMap:
    """The output of a residual stage, recorded as one group."""
    blocks = "1 block" if len(stage) == 1 else f"{len(stage)} blocks"
    with recorder.group(path, f"residual stage of {blocks}", feature_map, feature_level=feature_level) as out:
        out.append(trace_node(stage, path, feature_map, recorder))
    return out[0]


def stem_group(node: Node, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    """The output of the convolutions of a stem, recorded as one group."""
    with recorder.group(path, "stem convolution", feature_map) as out:
        out.append(trace_node(node, path, feature_map, recorder))
    return out[0]


def pyramid(node: net.Encoder, path: str, feature_map: FeatureMap, recorder: Recorder) -> list[FeatureMap]:
    """The feature maps P1, P2, ... of an encoder, fine to coarse."""
    return (
        _resnet_pyramid(node, path, feature_map, recorder)
        if isinstance(node, net.ResNet)
        else _preact_pyramid(node, path, feature_map, recorder)
    )


def _resnet_pyramid(node: net.ResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> list[FeatureMap]:
    feature_map = stem_group(node.conv1, join(path, "conv1"), feature_map, recorder)
    feature_map = trace_group(
        node, ("bn1", "act1"), path, "normalization and activation", feature_map, recorder, feature_level=1
    )
    maps = [feature_map]
    feature_map = trace_optional(node.maxpool, join(path, "maxpool"), feature_map, recorder)
    for number, layer in enumerate(node.stage_list, start=1):
        feature_map = stage_group(layer, join(path, f"layer{number}"), feature_map, recorder, feature_level=number + 1)
        maps.append(feature_map)
    return maps


def _preact_pyramid(node: net.PreActResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> list[FeatureMap]:
    names = ("conv1", "norm1", "act1", "conv2", "norm2", "act2", "conv3") if node.stem.deep else ("conv",)
    with recorder.group(join(path, "stem"), "stem convolution", feature_map, feature_level=1) as out:
        out.append(trace_children(node.stem, names, join(path, "stem"), feature_map, recorder))
    maps = [out[0]]
    feature_map = trace_optional(node.maxpool, join(path, "maxpool"), out[0], recorder)
    for number, blocks in enumerate(node.stage_list):
        feature_map = stage_group(
            blocks, join(path, f"stages.{number}.blocks"), feature_map, recorder, feature_level=number + 2
        )
        maps.append(feature_map)
    return maps


@traces(net.ResNet)
def _resnet(node: net.ResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    feature_map = _resnet_pyramid(node, path, feature_map, recorder)[-1]
    return trace_children(node, ("avgpool", "fc", "activation"), path, feature_map, recorder)


@traces(net.PreActResNet)
def _preact_resnet(node: net.PreActResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    feature_map = _preact_pyramid(node, path, feature_map, recorder)[-1]
    if node.norm is not None:
        feature_map = trace_group(node, ("norm", "act"), path, "normalization and activation", feature_map, recorder)
    if node.head is not None:
        feature_map = trace_children(node.head, ("pool", "fc"), join(path, "head"), feature_map, recorder)
    return trace_optional(node.activation, join(path, "activation"), feature_map, recorder)
