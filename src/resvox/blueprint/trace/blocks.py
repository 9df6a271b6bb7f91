"""Residual blocks walked: a branch, a shortcut, their sum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resvox.blueprint import blocks as b
from resvox.blueprint.leaves import MaxPool
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import Visit, chain, through, visit, visits
from resvox.blueprint.trace.leaves import windowed
from resvox.blueprint.trace.signal import Signal, Tape
from resvox.errors import BlueprintError


@visits(b.ZeroPadShortcut)
def _zero_pad(node: b.ZeroPadShortcut, path: str, signal: Signal, tape: Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = windowed(signal, size, ones, node.stride, ones, node.out_channels)
    return tape.leaf(path, "zero-padded shortcut", node, signal, after, 0)


@visits(b.SqueezeExcitation)
def _squeeze_excitation(node: b.SqueezeExcitation, path: str, signal: Signal, tape: Tape) -> Signal:
    with tape.group(path, "squeeze and excitation", signal) as out:
        pooled = replace(signal, size=(1,) * len(signal.size))
        chain(node, ("fc1", "act", "fc2", "gate"), path, pooled, tape)
        out.append(signal)
    return signal


@visits(b.PreActShortcut)
def _preact_shortcut(node: b.PreActShortcut, path: str, signal: Signal, tape: Tape) -> Signal:
    return chain(node, ("pool", "conv"), path, signal, tape)


def _sum(branch: Signal, shortcut: Signal, path: str) -> Signal:
    if branch.shape != shortcut.shape:
        raise BlueprintError(
            f"{branch.shape} and {shortcut.shape} meet in the sum at {path!r}", expected="equal shapes"
        )
    field_ = tuple(map(max, branch.receptive_field, shortcut.receptive_field))
    return replace(branch, receptive_field=field_)


def _postact(kind: str, names: tuple[str, ...], last: str) -> Visit:
    def walk(node: Any, path: str, signal: Signal, tape: Tape) -> Signal:
        gated = (*names[:-1], "se", names[-1]) if node.se_before_norm else (*names, "se")
        with tape.group(path, kind, signal) as out:
            branch = chain(node, (*gated, "droppath"), path, signal, tape)
            shortcut = through(node.downsample, join(path, "downsample"), signal, tape)
            total = _sum(branch, shortcut, path)
            out.append(visit(getattr(node, last), join(path, last), total, tape))
        return out[0]

    return walk


def _preact(kind: str, names: tuple[str, ...]) -> Visit:
    def walk(node: Any, path: str, signal: Signal, tape: Tape) -> Signal:
        with tape.group(path, kind, signal) as out:
            active = chain(node, ("norm1", "act1"), path, signal, tape)
            shortcut = signal
            if node.downsample is not None:
                meets = signal if isinstance(node.downsample, MaxPool) else active
                shortcut = visit(node.downsample, join(path, "downsample"), meets, tape)
            branch = chain(node, (*names, "se", "droppath"), path, active, tape)
            out.append(_sum(branch, shortcut, path))
        return out[0]

    return walk


visits(b.BasicBlock)(_postact("basic block", ("conv1", "bn1", "act1", "conv2", "bn2"), "act2"))
visits(b.BottleneckBlock)(
    _postact("bottleneck block", ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3"), "act3")
)
visits(b.PreActBasicBlock)(_preact("pre-activation basic block", ("conv1", "norm2", "act2", "conv2")))
visits(b.PreActBottleneckBlock)(
    _preact("pre-activation bottleneck block", ("conv1", "norm2", "act2", "conv2", "norm3", "act3", "conv3"))
)
