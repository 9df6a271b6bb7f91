"""The TransUNet walked: encoder, transformer, queries, and the way up."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import chain, visit, visits
from resvox.blueprint.trace.encoders import pyramid
from resvox.blueprint.trace.segmenters import decoder_block, heads_of
from resvox.blueprint.trace.signal import Signal, Tape
from resvox.blueprint.trace.transformers import votes


def _decoder(node: net.TransDecoder, path: str, maps: list[Signal], tape: Tape) -> list[Signal]:
    """What comes out at every level from the deepest to P1."""
    *skips, deepest = maps
    vit = visit(node.vit, join(path, "vit"), deepest, tape)
    voted = votes(node.queries, join(path, "queries"), vit, skips, tape)
    with tape.group(join(path, "conv"), "transformer's map and votes joined", vit) as out:
        x = replace(vit, channels=vit.channels + voted.channels)
        x = replace(visit(node.up, join(path, "up"), x, tape), size=deepest.size)
        out.append(chain(node, ("conv", "bn", "act"), path, x, tape))
    ways = [out[0]]
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        ways.append(decoder_block(block, join(path, f"blocks.{name}"), ways[-1], [skips.pop()], tape))
    return ways


@visits(net.TransUNet)
def _trans_unet(node: net.TransUNet, path: str, signal: Signal, tape: Tape) -> Signal:
    maps = pyramid(node.encoder, join(path, "encoder"), signal, tape)
    ways = _decoder(node.decoder, join(path, "decoder"), maps, tape)
    with tape.group(join(path, "head"), "head, cut to the input's size", ways[-1]) as out:
        out.append(replace(visit(node.head, join(path, "head"), ways[-1], tape), size=signal.size))
    for (name, head), way in zip(heads_of(node), reversed(ways[:-1]), strict=False):
        place = join(path, f"supervision.{name}")
        with tape.group(place, "deep supervision, cut to the input's size", way) as coarse:
            coarse.append(replace(chain(head, ("conv", "up"), place, way, tape), size=signal.size))
    return chain(node, ("activation",), path, out[0], tape)
