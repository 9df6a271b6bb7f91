"""A network walked without a tensor: shapes, parameters, operations, receptive fields, from the blueprint alone.

Floating-point operations count as PyTorch's ``FlopCounterMode`` does: two for every multiply-add of
convolutions, linear layers and attention, nothing for the rest. The receptive field follows the strongest path
of convolutions and poolings (Araujo et al., Distill 2019); the gate of a squeeze-and-excitation, which sees
everything, is left out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from resvox.blueprint import blocks as b
from resvox.blueprint import leaves as lf
from resvox.blueprint import networks as net
from resvox.blueprint.node import Node, Sequence, join
from resvox.errors import BlueprintError

Axes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A feature map in thought: its channels and size, the stride and field of one of its voxels."""

    channels: int
    size: Axes
    stride: tuple[Fraction, ...]
    receptive_field: Axes

    @property
    def shape(self) -> Axes:
        """(batch 1, channels, \\*size); a linear layer's signal has no size."""
        return (1, self.channels, *self.size)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of a walk: an operation or a group of them (then ``children`` holds its rows).

    Shapes are (batch 1, channels, \\*size); ``stride`` and ``receptive_field`` are in voxels of the input;
    ``activations`` counts the values written by the operations.
    """

    name: str
    operation: str
    input_shape: Axes
    output_shape: Axes
    parameters: int
    statistics: int
    flops: int
    receptive_field: Axes
    stride: Axes
    activations: int
    children: tuple[Stage, ...] = ()

    def walk(self) -> Iterator[Stage]:
        """This row and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class _Tape:
    """Collects rows; a group's sums come from its rows."""

    rows: list[Stage] = field(default_factory=list)

    def leaf(self, path: str, operation: str, node: Node, before: Signal, after: Signal, flops: int) -> Signal:
        row = _row(path, operation, before, after)
        self.rows.append(
            replace(
                row,
                parameters=node.parameters,
                statistics=node.statistics,
                flops=flops,
                activations=math.prod(after.shape),
            )
        )
        return after

    @contextmanager
    def group(self, path: str, operation: str, before: Signal) -> Iterator[list[Signal]]:
        """Rows added inside become children; the caller appends the signal that leaves the group."""
        outer, self.rows = self.rows, []
        out: list[Signal] = []
        yield out
        inner, self.rows = self.rows, outer
        row = _row(path, operation, before, out[-1])
        self.rows.append(
            replace(
                row,
                parameters=sum(r.parameters for r in inner),
                statistics=sum(r.statistics for r in inner),
                flops=sum(r.flops for r in inner),
                activations=sum(r.activations for r in inner),
                children=tuple(inner),
            )
        )


def _row(path: str, operation: str, before: Signal, after: Signal) -> Stage:
    return Stage(
        name=path,
        operation=operation,
        input_shape=before.shape,
        output_shape=after.shape,
        parameters=0,
        statistics=0,
        flops=0,
        receptive_field=after.receptive_field,
        stride=tuple(math.ceil(s) for s in after.stride),
        activations=0,
    )


def trace(network: Node, in_channels: int, size: Axes) -> tuple[Stage, ...]:
    """The rows of a network for an input of that spatial size, in the order of the forward pass."""
    ones = (1,) * len(size)
    start = Signal(channels=in_channels, size=size, stride=tuple(map(Fraction, ones)), receptive_field=ones)
    tape = _Tape()
    _visit(network, "", start, tape)
    return tuple(tape.rows)


def _visit(node: Node, path: str, signal: Signal, tape: _Tape) -> Signal:
    visit = _VISITS.get(type(node))
    if visit is None:
        raise BlueprintError(f"{type(node).__name__} at {path!r}", expected="a node that can be traced")
    out: Signal = visit(node, path, signal, tape)
    return out


def _through(node: Node | None, path: str, signal: Signal, tape: _Tape) -> Signal:
    return signal if node is None else _visit(node, path, signal, tape)


# --- leaves -----------------------------------------------------------------------------------------------------


def _windowed(signal: Signal, size: Axes, kernel: Axes, stride: Axes, dilation: Axes, channels: int) -> Signal:
    grown = tuple(
        r + math.ceil((k - 1) * d * j)
        for r, k, d, j in zip(signal.receptive_field, kernel, dilation, signal.stride, strict=True)
    )
    strides = tuple(j * s for j, s in zip(signal.stride, stride, strict=True))
    return Signal(channels=channels, size=size, stride=strides, receptive_field=grown)


def _times(sizes: Axes) -> str:
    return "x".join(map(str, sizes)) if len(set(sizes)) > 1 else f"{sizes[0]}" + f"x{sizes[0]}" * (len(sizes) - 1)


def _check(signal: Signal, channels: int, path: str) -> None:
    if signal.channels != channels:
        raise BlueprintError(f"{signal.channels} channels arrive at {path!r}", expected=f"{channels} channels there")


def _conv(node: lf.Conv, path: str, signal: Signal, tape: _Tape) -> Signal:
    _check(signal, node.in_channels, path)
    size = node.output_size(signal.size)
    after = _windowed(signal, size, node.kernel, node.stride, node.dilation, node.out_channels)
    text = f"{_times(node.kernel)} convolution, {node.out_channels}"
    text += f", stride {_times_or_one(node.stride)}" if max(node.stride) > 1 else ""
    text += f", dilation {_times_or_one(node.dilation)}" if max(node.dilation) > 1 else ""
    text += f", {node.groups} groups" if node.groups > 1 else ""
    per_voxel = 2 * node.in_channels // node.groups * math.prod(node.kernel) * node.out_channels
    return tape.leaf(path, text, node, signal, after, per_voxel * math.prod(size))


def _times_or_one(values: Axes) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _phase(scale: int, stride: Fraction) -> Fraction:
    """What an enlarged voxel's field gains by its place in the cell above, at most: no one sum is exact for all."""
    return stride - stride / scale


def _transposed(node: lf.TransposedConv, path: str, signal: Signal, tape: _Tape) -> Signal:
    _check(signal, node.in_channels, path)
    size = node.output_size(signal.size)
    reach = tuple(
        r + math.ceil((math.ceil(k / s) - 1) * j + _phase(s, j))
        for r, k, s, j in zip(signal.receptive_field, node.kernel, node.stride, signal.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(signal.stride, node.stride, strict=True))
    after = Signal(channels=node.out_channels, size=size, stride=strides, receptive_field=reach)
    text = f"{_times(node.kernel)} transposed convolution, {node.out_channels}, stride {_times_or_one(node.stride)}"
    per_voxel = 2 * node.in_channels * node.out_channels * math.prod(node.kernel)
    return tape.leaf(path, text, node, signal, after, per_voxel * math.prod(signal.size))


def _norm(node: lf.Norm, path: str, signal: Signal, tape: _Tape) -> Signal:
    _check(signal, node.channels, path)
    text = f"{node.kind} norm" + (f", {node.groups} groups" if node.kind == "group" else "")
    return tape.leaf(path, text, node, signal, signal, 0)


def _activation(node: lf.Activation, path: str, signal: Signal, tape: _Tape) -> Signal:
    return tape.leaf(path, node.kind, node, signal, signal, 0)


def _max_pool(node: lf.MaxPool, path: str, signal: Signal, tape: _Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = _windowed(signal, size, node.kernel, node.stride, ones, signal.channels)
    text = f"{_times(node.kernel)} max pooling, stride {_times_or_one(node.stride)}"
    return tape.leaf(path, text, node, signal, after, 0)


def _average_pool(node: lf.AveragePool, path: str, signal: Signal, tape: _Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = _windowed(signal, size, node.kernel, node.stride, ones, signal.channels)
    text = f"{_times(node.kernel)} average pooling"
    text += f", stride {_times_or_one(node.stride)}" if node.stride != node.kernel else ""
    return tape.leaf(path, text, node, signal, after, 0)


def _global_pool(node: lf.GlobalAveragePool, path: str, signal: Signal, tape: _Tape) -> Signal:
    # One voxel is left that has seen every place: its field grows by all the steps between them.
    grown = tuple(
        r + math.ceil((n - 1) * j) for r, n, j in zip(signal.receptive_field, signal.size, signal.stride, strict=True)
    )
    strides = tuple(n * j for n, j in zip(signal.size, signal.stride, strict=True))
    after = Signal(channels=signal.channels, size=(1,) * len(signal.size), stride=strides, receptive_field=grown)
    return tape.leaf(path, "global average pooling", node, signal, after, 0)


def _upsample(node: lf.Upsample, path: str, signal: Signal, tape: _Tape) -> Signal:
    mixes = node.mode == "linear"
    reach = tuple(
        r + math.ceil((j if mixes and s > 1 else 0) + _phase(s, j))
        for r, s, j in zip(signal.receptive_field, node.scale, signal.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(signal.stride, node.scale, strict=True))
    after = Signal(channels=signal.channels, size=node.output_size(signal.size), stride=strides, receptive_field=reach)
    return tape.leaf(path, f"{node.mode} upsampling, {_times_or_one(node.scale)}", node, signal, after, 0)


def _linear(node: lf.Linear, path: str, signal: Signal, tape: _Tape) -> Signal:
    _check(signal, node.in_features, path)
    flat = replace(signal, size=())  # what pooling left has no axes of space any more
    after = replace(flat, channels=node.out_features)
    flops = 2 * node.in_features * node.out_features
    return tape.leaf(path, f"linear, {node.out_features}", node, flat, after, flops)


def _same(node: Node, path: str, signal: Signal, tape: _Tape) -> Signal:
    return signal


def _zero_pad(node: b.ZeroPadShortcut, path: str, signal: Signal, tape: _Tape) -> Signal:
    size, ones = node.output_size(signal.size), (1,) * len(signal.size)
    after = _windowed(signal, size, ones, node.stride, ones, node.out_channels)
    return tape.leaf(path, "zero-padded shortcut", node, signal, after, 0)


# --- blocks -----------------------------------------------------------------------------------------------------


def _sequence(node: Sequence, path: str, signal: Signal, tape: _Tape) -> Signal:
    for name, child in node.children():
        signal = _visit(child, join(path, name), signal, tape)
    return signal


def _chain(node: Node, names: tuple[str, ...], path: str, signal: Signal, tape: _Tape) -> Signal:
    for name in names:
        signal = _through(getattr(node, name), join(path, name), signal, tape)
    return signal


def _squeeze_excitation(node: b.SqueezeExcitation, path: str, signal: Signal, tape: _Tape) -> Signal:
    with tape.group(path, "squeeze and excitation", signal) as out:
        pooled = replace(signal, size=(1,) * len(signal.size))
        _chain(node, ("fc1", "act", "fc2", "gate"), path, pooled, tape)
        out.append(signal)
    return signal


def _preact_shortcut(node: b.PreActShortcut, path: str, signal: Signal, tape: _Tape) -> Signal:
    return _chain(node, ("pool", "conv"), path, signal, tape)


def _sum(branch: Signal, shortcut: Signal, path: str) -> Signal:
    if branch.shape != shortcut.shape:
        raise BlueprintError(
            f"{branch.shape} and {shortcut.shape} meet in the sum at {path!r}", expected="equal shapes"
        )
    field_ = tuple(map(max, branch.receptive_field, shortcut.receptive_field))
    return replace(branch, receptive_field=field_)


def _postact(kind: str, names: tuple[str, ...], last: str) -> Callable[..., Signal]:
    def visit(node: Any, path: str, signal: Signal, tape: _Tape) -> Signal:
        gated = (*names[:-1], "se", names[-1]) if node.se_before_norm else (*names, "se")
        with tape.group(path, kind, signal) as out:
            branch = _chain(node, (*gated, "droppath"), path, signal, tape)
            shortcut = _through(node.downsample, join(path, "downsample"), signal, tape)
            total = _sum(branch, shortcut, path)
            out.append(_visit(getattr(node, last), join(path, last), total, tape))
        return out[0]

    return visit


def _preact(kind: str, names: tuple[str, ...]) -> Callable[..., Signal]:
    def visit(node: Any, path: str, signal: Signal, tape: _Tape) -> Signal:
        with tape.group(path, kind, signal) as out:
            active = _chain(node, ("norm1", "act1"), path, signal, tape)
            shortcut = signal
            if node.downsample is not None:
                shortcut = _visit(node.downsample, join(path, "downsample"), active, tape)
            branch = _chain(node, (*names, "se", "droppath"), path, active, tape)
            out.append(_sum(branch, shortcut, path))
        return out[0]

    return visit


# --- networks ---------------------------------------------------------------------------------------------------


def _stage_group(stage: Sequence, path: str, signal: Signal, tape: _Tape) -> Signal:
    blocks = "1 block" if len(stage) == 1 else f"{len(stage)} blocks"
    with tape.group(path, f"residual stage of {blocks}", signal) as out:
        out.append(_sequence(stage, path, signal, tape))
    return out[0]


def _stem_group(node: Node, path: str, signal: Signal, tape: _Tape) -> Signal:
    with tape.group(path, "stem convolution", signal) as out:
        out.append(_visit(node, path, signal, tape))
    return out[0]


def _named(node: Node, names: tuple[str, ...], path: str, title: str, signal: Signal, tape: _Tape) -> Signal:
    with tape.group(" + ".join(join(path, name) for name in names), title, signal) as out:
        out.append(_chain(node, names, path, signal, tape))
    return out[0]


def _pyramid(node: net.Encoder, path: str, signal: Signal, tape: _Tape) -> list[Signal]:
    return (
        _resnet_pyramid(node, path, signal, tape)
        if isinstance(node, net.ResNet)
        else _preact_pyramid(node, path, signal, tape)
    )


def _resnet_pyramid(node: net.ResNet, path: str, signal: Signal, tape: _Tape) -> list[Signal]:
    signal = _stem_group(node.conv1, join(path, "conv1"), signal, tape)
    signal = _named(node, ("bn1", "act1"), path, "normalization and activation", signal, tape)
    maps = [signal]
    signal = _through(node.maxpool, join(path, "maxpool"), signal, tape)
    for number, layer in enumerate(node.stage_list, start=1):
        signal = _stage_group(layer, join(path, f"layer{number}"), signal, tape)
        maps.append(signal)
    return maps


def _preact_pyramid(node: net.PreActResNet, path: str, signal: Signal, tape: _Tape) -> list[Signal]:
    names = ("conv1", "norm1", "act1", "conv2", "norm2", "act2", "conv3") if node.stem.deep else ("conv",)
    with tape.group(join(path, "stem"), "stem convolution", signal) as out:
        out.append(_chain(node.stem, names, join(path, "stem"), signal, tape))
    maps = [out[0]]
    signal = _through(node.maxpool, join(path, "maxpool"), out[0], tape)
    for number, blocks in enumerate(node.stage_list):
        signal = _stage_group(blocks, join(path, f"stages.{number}.blocks"), signal, tape)
        maps.append(signal)
    return maps


def _resnet(node: net.ResNet, path: str, signal: Signal, tape: _Tape) -> Signal:
    signal = _resnet_pyramid(node, path, signal, tape)[-1]
    return _chain(node, ("avgpool", "fc", "activation"), path, signal, tape)


def _preact_resnet(node: net.PreActResNet, path: str, signal: Signal, tape: _Tape) -> Signal:
    signal = _preact_pyramid(node, path, signal, tape)[-1]
    if node.norm is not None:
        signal = _named(node, ("norm", "act"), path, "normalization and activation", signal, tape)
    if node.head is not None:
        signal = _chain(node.head, ("pool", "fc"), join(path, "head"), signal, tape)
    return _through(node.activation, join(path, "activation"), signal, tape)


def _decoder_block(node: net.UNetDecoderBlock, path: str, signal: Signal, reference: Signal, tape: _Tape) -> Signal:
    with tape.group(path, "decoder block", signal) as out:
        x = _visit(node.up, join(path, "up"), signal, tape)
        # One rule for any size: what was enlarged is cut to the size of what it meets.
        x = replace(x, size=reference.size)
        if node.joins:
            widest = tuple(map(max, x.receptive_field, reference.receptive_field))
            x = replace(x, channels=x.channels + reference.channels, receptive_field=widest)
        out.append(_chain(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), path, x, tape))
    return out[0]


def _unet(node: net.UNet, path: str, signal: Signal, tape: _Tape) -> Signal:
    references = [signal, *_pyramid(node.encoder, join(path, "encoder"), signal, tape)]
    x = references.pop()
    for name, block in node.decoder.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = _decoder_block(block, join(path, f"decoder.blocks.{name}"), x, references.pop(), tape)
    return _chain(node, ("head", "activation"), path, x, tape)


def _dense(node: net.DenseResNet, path: str, signal: Signal, tape: _Tape) -> Signal:
    x = _stem_group(node.conv1, join(path, "conv1"), signal, tape)
    x = _named(node, ("bn1", "act1"), path, "normalization and activation", x, tape)
    for name, layer in node.layers.children():
        assert isinstance(layer, Sequence)
        x = _stage_group(layer, join(path, f"layers.{name}"), x, tape)
    with tape.group(join(path, "up"), "upsampling, cut to the input's size", x) as out:
        out.append(replace(_visit(node.up, join(path, "up"), x, tape), size=signal.size))
    x = _named(node, ("head",), path, "head", out[0], tape)
    return _through(node.activation, join(path, "activation"), x, tape)


_VISITS: dict[type[Node], Callable[..., Signal]] = {
    Sequence: _sequence,
    lf.Conv: _conv,
    lf.TransposedConv: _transposed,
    lf.Norm: _norm,
    lf.Activation: _activation,
    lf.MaxPool: _max_pool,
    lf.AveragePool: _average_pool,
    lf.GlobalAveragePool: _global_pool,
    lf.Upsample: _upsample,
    lf.Linear: _linear,
    lf.DropPath: _same,
    lf.Dropout: _same,
    lf.Identity: _same,
    b.ZeroPadShortcut: _zero_pad,
    b.SqueezeExcitation: _squeeze_excitation,
    b.PreActShortcut: _preact_shortcut,
    b.BasicBlock: _postact("basic block", ("conv1", "bn1", "act1", "conv2", "bn2"), "act2"),
    b.BottleneckBlock: _postact(
        "bottleneck block", ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3"), "act3"
    ),
    b.PreActBasicBlock: _preact("pre-activation basic block", ("conv1", "norm2", "act2", "conv2")),
    b.PreActBottleneckBlock: _preact(
        "pre-activation bottleneck block", ("conv1", "norm2", "act2", "conv2", "norm3", "act3", "conv3")
    ),
    net.ResNet: _resnet,
    net.PreActResNet: _preact_resnet,
    net.UNet: _unet,
    net.DenseResNet: _dense,
}
