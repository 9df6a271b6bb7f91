"""Networks for one value a voxel walked, from the input's size back to it."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint import networks as net
from resvox.blueprint.node import Sequence, join
from resvox.blueprint.trace.dispatch import named, through, visit, visits
from resvox.blueprint.trace.encoders import stage_group, stem_group
from resvox.blueprint.trace.signal import Signal, Tape


@visits(net.DenseResNet)
def _dense(node: net.DenseResNet, path: str, signal: Signal, tape: Tape) -> Signal:
    x = stem_group(node.conv1, join(path, "conv1"), signal, tape)
    x = named(node, ("bn1", "act1"), path, "normalization and activation", x, tape)
    for name, layer in node.layers.children():
        assert isinstance(layer, Sequence)
        x = stage_group(layer, join(path, f"layers.{name}"), x, tape)
    with tape.group(join(path, "up"), "upsampling, cut to the input's size", x) as out:
        out.append(replace(visit(node.up, join(path, "up"), x, tape), size=signal.size))
    x = named(node, ("head",), path, "head", out[0], tape)
    return through(node.activation, join(path, "activation"), x, tape)
