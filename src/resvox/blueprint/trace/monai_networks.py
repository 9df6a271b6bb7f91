"""Tracing of MONAI's segmentation networks."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.monai import networks as mn
from resvox.blueprint.node import join
from resvox.blueprint.trace.blocks import meet
from resvox.blueprint.trace.dispatch import trace_children, trace_node, trace_optional, traces
from resvox.blueprint.trace.encoders import stage_group
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.blueprint.trace.segmenters import heads_of, join_maps


@traces(mn.PReLU)
def _prelu(node: mn.PReLU, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    return recorder.leaf(path, "prelu", node, feature_map, feature_map, 0)


@traces(mn.ConvUnit)
def _conv_unit(node: mn.ConvUnit, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    return trace_children(node, ("conv", "norm", "dropout", "act"), path, feature_map, recorder)


@traces(mn.ResidualUnit)
def _unit(node: mn.ResidualUnit, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    with recorder.group(path, "residual unit" if node.adds else "convolution unit", feature_map) as out:
        branch = trace_node(node.convs, join(path, "convs"), feature_map, recorder)
        if node.adds:
            shortcut = trace_optional(node.shortcut, join(path, "shortcut"), feature_map, recorder)
            branch = meet(branch, shortcut, path)
        out.append(branch)
    return out[0]


def _monai_up(
    node: mn.MonaiUpLevel, path: str, joined: FeatureMap, reference: FeatureMap, recorder: Recorder
) -> FeatureMap:
    with recorder.group(path, "decoder level", joined) as out:
        x = replace(trace_node(node.up, join(path, "up"), joined, recorder), size=reference.size)
        out.append(trace_optional(node.unit, join(path, "unit"), x, recorder))
    return out[0]


@traces(mn.MonaiUNet)
def _monai_unet(node: mn.MonaiUNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    maps, x = [feature_map], feature_map
    for name, unit in node.encoder.levels.children():
        x = trace_node(unit, join(path, f"encoder.levels.{name}"), x, recorder)
        maps.append(x)
    x = maps.pop()
    for name, level in node.decoder.levels.children():
        assert isinstance(level, mn.MonaiUpLevel)
        joined = join_maps([maps.pop(), x])
        x = _monai_up(level, join(path, f"decoder.levels.{name}"), joined, maps[-1], recorder)
    joined = join_maps([maps.pop(), x])
    x = _monai_up(node.head, join(path, "head"), joined, feature_map, recorder)
    return trace_children(node, ("activation",), path, x, recorder)


def _segresnet_maps(
    node: mn.SegResNetEncoder, path: str, feature_map: FeatureMap, recorder: Recorder
) -> list[FeatureMap]:
    x, maps = trace_children(node, ("conv", "dropout"), path, feature_map, recorder), []
    for name, level in node.levels.children():
        assert isinstance(level, mn.SegResNetLevel)
        full = join(path, f"levels.{name}")
        x = trace_optional(level.down, join(full, "down"), x, recorder)
        x = stage_group(level.blocks, join(full, "blocks"), x, recorder)
        maps.append(x)
    return maps


@traces(mn.SegResNet, mn.SegResNetDS)
def _segresnet(node: mn.SegResNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    maps = _segresnet_maps(node.encoder, join(path, "encoder"), feature_map, recorder)
    x, outputs = maps.pop(), []
    for name, level in node.decoder.levels.children():
        assert isinstance(level, mn.SegResNetUpLevel)
        full = join(path, f"decoder.levels.{name}")
        with recorder.group(full, "decoder level", x) as out:
            skip = maps.pop()
            enlarged = trace_children(level, ("conv", "up"), full, x, recorder)
            total = meet(replace(enlarged, size=skip.size), skip, full)
            out.append(trace_node(level.blocks, join(full, "blocks"), total, recorder))
        x = out[0]
        outputs.append(x)
    x = trace_children(node, ("head",), path, x, recorder)
    for (name, head), output in zip(heads_of(node), reversed(outputs[:-1]), strict=False):
        assert isinstance(head, net.SupervisionHead)
        full = join(path, f"supervision.{name}")
        with recorder.group(full, "deep supervision, cut to the input's size", output) as out:
            out.append(replace(trace_children(head, ("conv", "up"), full, output, recorder), size=feature_map.size))
    return trace_children(node, ("activation",), path, x, recorder)
