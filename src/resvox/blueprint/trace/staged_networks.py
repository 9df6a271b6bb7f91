"""Tracing of nnU-Net's networks: stages of the encoder, levels of the decoder, heads."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint.node import Sequence, join
from resvox.blueprint.staged import networks as sn
from resvox.blueprint.trace.dispatch import trace_children, trace_node, traces
from resvox.blueprint.trace.encoders import stage_group, stem_group
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.blueprint.trace.segmenters import heads_of, join_maps


def staged_pyramid(node: sn.StagedEncoder, path: str, feature_map: FeatureMap, recorder: Recorder) -> list[FeatureMap]:
    """The feature maps P1, P2, ... of the encoder, fine to coarse."""
    if node.stem is not None:
        feature_map = stem_group(node.stem, join(path, "stem"), feature_map, recorder)
    maps = []
    for name, stage in node.stages.children():
        assert isinstance(stage, Sequence)
        full_path, level = join(path, f"stages.{name}"), int(name) + 1
        count = "1 convolution" if len(stage) == 1 else f"{len(stage)} convolutions"
        if isinstance(stage.items[0], Sequence):
            with recorder.group(full_path, f"stage of {count}", feature_map, feature_level=level) as out:
                out.append(trace_node(stage, full_path, feature_map, recorder))
            feature_map = out[0]
        else:
            feature_map = stage_group(stage, full_path, feature_map, recorder, feature_level=level)
        maps.append(feature_map)
    return maps


def _level(node: sn.StagedLevel, path: str, below: FeatureMap, skip: FeatureMap, recorder: Recorder) -> FeatureMap:
    with recorder.group(path, "decoder block", below) as out:
        x = trace_node(node.up, join(path, "up"), below, recorder)
        x = join_maps([replace(x, size=skip.size), skip])  # cropped to the size of the skip
        out.append(trace_node(node.blocks, join(path, "blocks"), x, recorder))
    return out[0]


@traces(sn.ResEncUNet, sn.PlainUNet, sn.ResidualUNet)
def _staged_unet(node: sn.StagedUNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    maps = staged_pyramid(node.encoder, join(path, "encoder"), feature_map, recorder)
    outputs = [maps.pop()]
    for name, level in node.decoder.levels.children():
        assert isinstance(level, sn.StagedLevel)
        outputs.append(_level(level, join(path, f"decoder.levels.{name}"), outputs[-1], maps.pop(), recorder))
    x = trace_children(node, ("head",), path, outputs.pop(), recorder)
    for (name, head), output in zip(heads_of(node), reversed(outputs), strict=False):
        full_path = join(path, f"supervision.{name}")
        with recorder.group(full_path, "deep supervision, cut to the input's size", output) as out:
            enlarged = trace_children(head, ("conv", "up"), full_path, output, recorder)
            out.append(replace(enlarged, size=feature_map.size))
    return trace_children(node, ("activation",), path, x, recorder)
