"""Tracing of the TransUNet: encoder, transformer, learned queries, decoder."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import trace_children, trace_node, traces
from resvox.blueprint.trace.encoders import pyramid
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.blueprint.trace.segmenters import decoder_block, heads_of
from resvox.blueprint.trace.transformers import votes


def _decoder(node: net.TransDecoder, path: str, maps: list[FeatureMap], recorder: Recorder) -> list[FeatureMap]:
    """The outputs of the decoder at every level, from the deepest to P1."""
    *skips, deepest = maps
    vit = trace_node(node.vit, join(path, "vit"), deepest, recorder)
    voted = votes(node.queries, join(path, "queries"), vit, skips, recorder)
    with recorder.group(join(path, "conv"), "transformer's map and class scores, concatenated", vit) as out:
        x = replace(vit, channels=vit.channels + voted.channels)
        x = replace(trace_node(node.up, join(path, "up"), x, recorder), size=deepest.size)
        out.append(trace_children(node, ("conv", "bn", "act"), path, x, recorder))
    outputs = [out[0]]
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        outputs.append(decoder_block(block, join(path, f"blocks.{name}"), outputs[-1], [skips.pop()], recorder))
    return outputs


@traces(net.TransUNet)
def _trans_unet(node: net.TransUNet, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    maps = pyramid(node.encoder, join(path, "encoder"), feature_map, recorder)
    outputs = _decoder(node.decoder, join(path, "decoder"), maps, recorder)
    with recorder.group(join(path, "head"), "head, cut to the input's size", outputs[-1]) as out:
        out.append(replace(trace_node(node.head, join(path, "head"), outputs[-1], recorder), size=feature_map.size))
    for (name, head), output in zip(heads_of(node), reversed(outputs[:-1]), strict=False):
        full_path = join(path, f"supervision.{name}")
        with recorder.group(full_path, "deep supervision, cut to the input's size", output) as coarse:
            coarse.append(
                replace(trace_children(head, ("conv", "up"), full_path, output, recorder), size=feature_map.size)
            )
    return trace_children(node, ("activation",), path, out[0], recorder)
