"""Tracing of residual blocks: a branch, a shortcut, their sum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resvox.blueprint import blocks as b
from resvox.blueprint.leaves import MaxPool
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import Tracer, trace_children, trace_node, trace_optional, traces
from resvox.blueprint.trace.leaves import windowed
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.errors import BlueprintError


@traces(b.ZeroPadShortcut)
def _zero_pad(node: b.ZeroPadShortcut, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    size, ones = node.output_size(feature_map.size), (1,) * len(feature_map.size)
    after = windowed(feature_map, size, ones, node.stride, ones, node.out_channels)
    return recorder.leaf(path, "zero-padded shortcut", node, feature_map, after, 0)


@traces(b.SqueezeExcitation)
def _squeeze_excitation(
    node: b.SqueezeExcitation, path: str, feature_map: FeatureMap, recorder: Recorder
) -> FeatureMap:
    with recorder.group(path, "squeeze and excitation", feature_map) as out:
        pooled = replace(feature_map, size=(1,) * len(feature_map.size))
        trace_children(node, ("fc1", "act", "fc2", "gate"), path, pooled, recorder)
        out.append(feature_map)
    return feature_map


@traces(b.PreActShortcut)
def _preact_shortcut(node: b.PreActShortcut, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    return trace_children(node, ("pool", "conv"), path, feature_map, recorder)


def meet(branch: FeatureMap, shortcut: FeatureMap, path: str) -> FeatureMap:
    """The sum of a branch and a shortcut.

    Raises:
        BlueprintError: maps of different shapes.
    """
    if branch.shape != shortcut.shape:
        raise BlueprintError(
            f"{branch.shape} and {shortcut.shape} meet in the sum at {path!r}", expected="equal shapes"
        )
    field_ = tuple(map(max, branch.receptive_field, shortcut.receptive_field))
    return replace(branch, receptive_field=field_)


def _postact(kind: str, names: tuple[str, ...], last: str) -> Tracer:
    def walk(node: Any, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
        gated = (*names[:-1], "se", names[-1]) if node.se_before_norm else (*names, "se")
        with recorder.group(path, kind, feature_map) as out:
            branch = trace_children(node, (*gated, "droppath"), path, feature_map, recorder)
            shortcut = trace_optional(node.downsample, join(path, "downsample"), feature_map, recorder)
            total = meet(branch, shortcut, path)
            out.append(trace_node(getattr(node, last), join(path, last), total, recorder))
        return out[0]

    return walk


def _preact(kind: str, names: tuple[str, ...]) -> Tracer:
    def walk(node: Any, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
        with recorder.group(path, kind, feature_map) as out:
            active = trace_children(node, ("norm1", "act1"), path, feature_map, recorder)
            shortcut = feature_map
            if node.downsample is not None:
                meets = feature_map if isinstance(node.downsample, MaxPool) else active
                shortcut = trace_node(node.downsample, join(path, "downsample"), meets, recorder)
            branch = trace_children(node, (*names, "se", "droppath"), path, active, recorder)
            out.append(meet(branch, shortcut, path))
        return out[0]

    return walk


traces(b.BasicBlock)(_postact("basic block", ("conv1", "bn1", "act1", "conv2", "bn2"), "act2"))
traces(b.BottleneckBlock)(
    _postact("bottleneck block", ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3"), "act3")
)
traces(b.PreActBasicBlock)(_preact("pre-activation basic block", ("conv1", "norm2", "act2", "conv2")))
traces(b.PreActBottleneckBlock)(
    _preact("pre-activation bottleneck block", ("conv1", "norm2", "act2", "conv2", "norm3", "act3", "conv3"))
)
