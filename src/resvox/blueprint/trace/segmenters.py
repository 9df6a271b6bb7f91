"""Segmentation models walked: an encoder, and the way up past its maps."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.dispatch import chain, visit, visits
from resvox.blueprint.trace.encoders import pyramid
from resvox.blueprint.trace.signal import Signal, Tape
from resvox.blueprint.unet_plus_plus import grid


def _meet(signals: list[Signal]) -> Signal:
    """Maps of one size joined along the channels."""
    widest = tuple(map(max, *(each.receptive_field for each in signals), signals[0].receptive_field))
    return replace(signals[0], channels=sum(each.channels for each in signals), receptive_field=widest)


def _gate(node: net.AttentionGate, path: str, below: Signal, skip: Signal, tape: Tape) -> Signal:
    with tape.group(path, "attention gate", skip) as out:
        theta = visit(node.theta, join(path, "theta"), skip, tape)
        phi = visit(node.phi, join(path, "phi"), below, tape)
        total = replace(_meet([theta, phi]), channels=theta.channels)
        weight = chain(node, ("act", "psi", "gate", "up"), path, total, tape)
        out.append(replace(_meet([skip, weight]), channels=skip.channels))
    return out[0]


def decoder_block(
    node: net.UNetDecoderBlock, path: str, signal: Signal, references: list[Signal], tape: Tape
) -> Signal:
    with tape.group(path, "decoder block", signal) as out:
        if node.gate is not None:
            references = [_gate(node.gate, join(path, "gate"), signal, references[0], tape), *references[1:]]
        x = visit(node.up, join(path, "up"), signal, tape)
        # One rule for any size: what was enlarged is cut to the size of what it meets.
        x = replace(x, size=references[0].size)
        if node.joins:
            x = _meet([x, *references])
        out.append(chain(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), path, x, tape))
    return out[0]


@visits(net.UNet, net.AttentionUNet)
def _unet(node: net.UNet | net.AttentionUNet, path: str, signal: Signal, tape: Tape) -> Signal:
    references = [signal, *pyramid(node.encoder, join(path, "encoder"), signal, tape)]
    x, ways = references.pop(), []
    for name, block in node.decoder.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = decoder_block(block, join(path, f"decoder.blocks.{name}"), x, [references.pop()], tape)
        ways.append(x)
    x = chain(node, ("head",), path, x, tape)
    for (name, head), way in zip(heads_of(node), reversed(ways[:-1]), strict=False):
        place = join(path, f"supervision.{name}")
        with tape.group(place, "deep supervision, cut to the input's size", way) as out:
            out.append(replace(chain(head, ("conv", "up"), place, way, tape), size=signal.size))
    return chain(node, ("activation",), path, x, tape)


@visits(net.UNetPlusPlus)
def _unet_plus_plus(node: net.UNetPlusPlus, path: str, signal: Signal, tape: Tape) -> Signal:
    maps = pyramid(node.encoder, join(path, "encoder"), signal, tape)
    row = [maps.pop()]
    for number, blocks in enumerate(grid(node.decoder)):  # deep to shallow: X(i, j) needs X(i + 1, j - 1)
        below, row = row, [maps.pop()]
        for column, (block, lower) in enumerate(zip(blocks, below, strict=True)):
            place = join(path, f"decoder.rows.{number}.{column}")
            row.append(decoder_block(block, place, lower, row, tape))
    bridge = join(path, "decoder.bridge")
    x = replace(visit(node.decoder.bridge, bridge, row[-1], tape), size=signal.size)
    x = chain(node, ("head",), path, x, tape)
    for (name, head), way in zip(heads_of(node), reversed(row[1:-1]), strict=False):
        place = join(path, f"supervision.{name}")
        with tape.group(place, "deep supervision", way) as out:
            full = replace(visit(node.decoder.bridge, bridge, way, tape), size=signal.size)
            out.append(visit(head, place, full, tape))
    return chain(node, ("activation",), path, x, tape)


def heads_of(node: net.Segmenter) -> list[tuple[str, Node]]:
    return list((node.supervision or Sequence(items=())).children())
