"""Single operations walked: their windows, sizes and operations."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from resvox.blueprint import leaves as lf
from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import Node
from resvox.blueprint.trace.dispatch import visits
from resvox.blueprint.trace.signal import Signal, Tape
from resvox.errors import BlueprintError


def windowed(signal: Signal, size: Axes, kernel: Axes, stride: Axes, dilation: Axes, channels: int) -> Signal:
    grown = tuple(
        r + math.ceil((k - 1) * d * j)
        for r, k, d, j in zip(signal.receptive_field, kernel, dilation, signal.stride, strict=True)
    )
    strides = tuple(j * s for j, s in zip(signal.stride, stride, strict=True))
    return Signal(channels=channels, size=size, stride=strides, receptive_field=grown)


def times(sizes: Axes) -> str:
    return "x".join(map(str, sizes)) if len(set(sizes)) > 1 else f"{sizes[0]}" + f"x{sizes[0]}" * (len(sizes) - 1)


def _check(signal: Signal, channels: int, path: str) -> None:
    if signal.channels != channels:
        raise BlueprintError(f"{signal.channels} channels arrive at {path!r}", expected=f"{channels} channels there")


@visits(lf.Conv)
def _conv(node: lf.Conv, path: str, signal: Signal, tape: Tape) -> Signal:
    _check(signal, node.in_channels, path)
    size = node.output_size(signal.size)
    after = windowed(signal, size, node.kernel, node.stride, node.dilation, node.out_channels)
    text = f"{times(node.kernel)} convolution, {node.out_channels}"
    text += f", stride {times_or_one(node.stride)}" if max(node.stride) > 1 else ""
    text += f", dilation {times_or_one(node.dilation)}" if max(node.dilation) > 1 else ""
    text += f", {node.groups} groups" if node.groups > 1 else ""
    per_voxel = 2 * node.in_channels // node.groups * math.prod(node.kernel) * node.out_channels
    return tape.leaf(path, text, node, signal, after, per_voxel * math.prod(size))


def times_or_one(values: Axes) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _phase(scale: int, stride: Fraction) -> Fraction:
    """What an enlarged voxel's field gains by its place in the cell above, at most: no one sum is exact for all."""
    return stride - stride / scale


@visits(lf.TransposedConv)
def _transposed(node: lf.TransposedConv, path: str, signal: Signal, tape: Tape) -> Signal:
    _check(signal, node.in_channels, path)
    size = node.output_size(signal.size)
    reach = tuple(
        r + math.ceil((math.ceil(k / s) - 1) * j + _phase(s, j))
        for r, k, s, j in zip(signal.receptive_field, node.kernel, node.stride, signal.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(signal.stride, node.stride, strict=True))
    after = Signal(channels=node.out_channels, size=size, stride=strides, receptive_field=reach)
    text = f"{times(node.kernel)} transposed convolution, {node.out_channels}, stride {times_or_one(node.stride)}"
    per_voxel = 2 * node.in_channels * node.out_channels * math.prod(node.kernel)
    return tape.leaf(path, text, node, signal, after, per_voxel * math.prod(signal.size))


@visits(lf.Norm)
def _norm(node: lf.Norm, path: str, signal: Signal, tape: Tape) -> Signal:
    _check(signal, node.channels, path)
    text = f"{node.kind} norm" + (f", {node.groups} groups" if node.kind == "group" else "")
    return tape.leaf(path, text, node, signal, signal, 0)


@visits(lf.Activation)
def _activation(node: lf.Activation, path: str, signal: Signal, tape: Tape) -> Signal:
    return tape.leaf(path, node.kind, node, signal, signal, 0)


@visits(lf.MaxPool, lf.ZeroPaddedMaxPool)
def _max_pool(node: lf.MaxPool, path: str, signal: Signal, tape: Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = windowed(signal, size, node.kernel, node.stride, ones, signal.channels)
    text = f"{times(node.kernel)} max pooling, stride {times_or_one(node.stride)}"
    return tape.leaf(path, text, node, signal, after, 0)


@visits(lf.AveragePool)
def _average_pool(node: lf.AveragePool, path: str, signal: Signal, tape: Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = windowed(signal, size, node.kernel, node.stride, ones, signal.channels)
    text = f"{times(node.kernel)} average pooling"
    text += f", stride {times_or_one(node.stride)}" if node.stride != node.kernel else ""
    return tape.leaf(path, text, node, signal, after, 0)


@visits(lf.GlobalAveragePool)
def _global_pool(node: lf.GlobalAveragePool, path: str, signal: Signal, tape: Tape) -> Signal:
    # One voxel is left that has seen every place: its field grows by all the steps between them.
    grown = tuple(
        r + math.ceil((n - 1) * j) for r, n, j in zip(signal.receptive_field, signal.size, signal.stride, strict=True)
    )
    strides = tuple(n * j for n, j in zip(signal.size, signal.stride, strict=True))
    after = Signal(channels=signal.channels, size=(1,) * len(signal.size), stride=strides, receptive_field=grown)
    return tape.leaf(path, "global average pooling", node, signal, after, 0)


@visits(lf.Upsample)
def _upsample(node: lf.Upsample, path: str, signal: Signal, tape: Tape) -> Signal:
    mixes = node.mode == "linear"
    reach = tuple(
        r + math.ceil((j if mixes and s > 1 else 0) + _phase(s, j))
        for r, s, j in zip(signal.receptive_field, node.scale, signal.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(signal.stride, node.scale, strict=True))
    after = Signal(channels=signal.channels, size=node.output_size(signal.size), stride=strides, receptive_field=reach)
    return tape.leaf(path, f"{node.mode} upsampling, {times_or_one(node.scale)}", node, signal, after, 0)


@visits(lf.Linear)
def _linear(node: lf.Linear, path: str, signal: Signal, tape: Tape) -> Signal:
    _check(signal, node.in_features, path)
    # token by token; what pooling left has no axes of space any more
    flat = signal if signal.tokens else replace(signal, size=())
    after = replace(flat, channels=node.out_features)
    flops = 2 * node.in_features * node.out_features * math.prod(flat.size)
    return tape.leaf(path, f"linear, {node.out_features}", node, flat, after, flops)


@visits(lf.DropPath, lf.Dropout, lf.Identity)
def _same(node: Node, path: str, signal: Signal, tape: Tape) -> Signal:
    return signal
