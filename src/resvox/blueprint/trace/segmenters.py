"""Segmentation models walked: an encoder, and the way up past its maps."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import chain, visit, visits
from resvox.blueprint.trace.encoders import pyramid
from resvox.blueprint.trace.signal import Signal, Tape


def _decoder_block(node: net.UNetDecoderBlock, path: str, signal: Signal, reference: Signal, tape: Tape) -> Signal:
    with tape.group(path, "decoder block", signal) as out:
        x = visit(node.up, join(path, "up"), signal, tape)
        # One rule for any size: what was enlarged is cut to the size of what it meets.
        x = replace(x, size=reference.size)
        if node.joins:
            widest = tuple(map(max, x.receptive_field, reference.receptive_field))
            x = replace(x, channels=x.channels + reference.channels, receptive_field=widest)
        out.append(chain(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), path, x, tape))
    return out[0]


@visits(net.UNet)
def _unet(node: net.UNet, path: str, signal: Signal, tape: Tape) -> Signal:
    references = [signal, *pyramid(node.encoder, join(path, "encoder"), signal, tape)]
    x = references.pop()
    for name, block in node.decoder.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = _decoder_block(block, join(path, f"decoder.blocks.{name}"), x, references.pop(), tape)
    return chain(node, ("head", "activation"), path, x, tape)
