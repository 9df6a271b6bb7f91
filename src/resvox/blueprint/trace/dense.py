"""Tracing of networks for dense prediction (one value per voxel, at the size of the input)."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import Sequence, join
from resvox.blueprint.trace.dispatch import trace_group, trace_node, trace_optional, traces
from resvox.blueprint.trace.encoders import stage_group, stem_group
from resvox.blueprint.trace.recording import FeatureMap, Recorder


@traces(net.DenseResNet)
def _dense(node: net.DenseResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    x = stem_group(node.conv1, join(path, "conv1"), feature_map, recorder)
    x = trace_group(node, ("bn1", "act1"), path, "normalization and activation", x, recorder)
    for name, layer in node.layers.children():
        assert isinstance(layer, Sequence)
        x = stage_group(layer, join(path, f"layers.{name}"), x, recorder)
    with recorder.group(join(path, "up"), "upsampling, cut to the input's size", x) as out:
        out.append(replace(trace_node(node.up, join(path, "up"), x, recorder), size=feature_map.size))
    x = trace_group(node, ("head",), path, "head", out[0], recorder)
    return trace_optional(node.activation, join(path, "activation"), x, recorder)
