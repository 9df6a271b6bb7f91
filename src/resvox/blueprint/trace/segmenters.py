"""Tracing of segmentation models: an encoder, and a decoder that joins its maps."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.dispatch import trace_children, trace_node, traces
from resvox.blueprint.trace.encoders import pyramid
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.blueprint.unet_plus_plus import grid


def join_maps(feature_maps: list[FeatureMap]) -> FeatureMap:
    """Maps of one size concatenated along the channels."""
    widest = tuple(map(max, *(each.receptive_field for each in feature_maps), feature_maps[0].receptive_field))
    return replace(feature_maps[0], channels=sum(each.channels for each in feature_maps), receptive_field=widest)


def _gate(node: net.AttentionGate, path: str, below: FeatureMap, skip: FeatureMap, recorder: Recorder) -> FeatureMap:
    with recorder.group(path, "attention gate", skip) as out:
        theta = trace_node(node.theta, join(path, "theta"), skip, recorder)
        phi = trace_node(node.phi, join(path, "phi"), below, recorder)
        total = replace(join_maps([theta, phi]), channels=theta.channels)
        weight = trace_children(node, ("act", "psi", "gate", "up"), path, total, recorder)
        out.append(replace(join_maps([skip, weight]), channels=skip.channels))
    return out[0]


def decoder_block(
    node: net.UNetDecoderBlock, path: str, feature_map: FeatureMap, references: list[FeatureMap], recorder: Recorder
) -> FeatureMap:
    """The output of a decoder block; ``references`` are the maps that it joins (the image where it joins none)."""
    with recorder.group(path, "decoder block", feature_map) as out:
        if node.gate is not None:
            references = [_gate(node.gate, join(path, "gate"), feature_map, references[0], recorder), *references[1:]]
        x = trace_node(node.up, join(path, "up"), feature_map, recorder)
        # One rule for any size: the enlarged map is cropped to the size of the skip.
        x = replace(x, size=references[0].size)
        if node.joins:
            x = join_maps([x, *references])
        out.append(trace_children(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), path, x, recorder))
    return out[0]


@traces(net.UNet, net.AttentionUNet)
def _unet(node: net.UNet | net.AttentionUNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    references = [feature_map, *pyramid(node.encoder, join(path, "encoder"), feature_map, recorder)]
    x, outputs = references.pop(), []
    for name, block in node.decoder.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = decoder_block(block, join(path, f"decoder.blocks.{name}"), x, [references.pop()], recorder)
        outputs.append(x)
    x = trace_children(node, ("head",), path, x, recorder)
    for (name, head), output in zip(heads_of(node), reversed(outputs[:-1]), strict=False):
        full_path = join(path, f"supervision.{name}")
        with recorder.group(full_path, "deep supervision, cut to the input's size", output) as out:
            out.append(
                replace(trace_children(head, ("conv", "up"), full_path, output, recorder), size=feature_map.size)
            )
    return trace_children(node, ("activation",), path, x, recorder)


@traces(net.UNetPlusPlus)
def _unet_plus_plus(node: net.UNetPlusPlus, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    maps = pyramid(node.encoder, join(path, "encoder"), feature_map, recorder)
    row = [maps.pop()]
    for number, blocks in enumerate(grid(node.decoder)):  # deep to shallow: X(i, j) needs X(i + 1, j - 1)
        below, row = row, [maps.pop()]
        for column, (block, lower) in enumerate(zip(blocks, below, strict=True)):
            full_path = join(path, f"decoder.rows.{number}.{column}")
            row.append(decoder_block(block, full_path, lower, row, recorder))
    bridge = join(path, "decoder.bridge")
    x = replace(trace_node(node.decoder.bridge, bridge, row[-1], recorder), size=feature_map.size)
    x = trace_children(node, ("head",), path, x, recorder)
    for (name, head), output in zip(heads_of(node), reversed(row[1:-1]), strict=False):
        full_path = join(path, f"supervision.{name}")
        with recorder.group(full_path, "deep supervision", output) as out:
            if isinstance(head, net.BridgedHead):
                full = trace_node(head.bridge, join(full_path, "bridge"), output, recorder)
                head, full_path = head.conv, join(full_path, "conv")
            else:
                full = trace_node(node.decoder.bridge, bridge, output, recorder)
            out.append(trace_node(head, full_path, replace(full, size=feature_map.size), recorder))
    return trace_children(node, ("activation",), path, x, recorder)


def heads_of(node: net.Segmenter) -> list[tuple[str, Node]]:
    """The heads of the deep supervision by name, finest first; empty without supervision."""
    return list((node.supervision or Sequence(items=())).children())
