"""Tracing of single operations: their windows, output sizes and FLOPs."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from resvox.blueprint import leaves as lf
from resvox.blueprint.leaves import Axes
from resvox.blueprint.monai.networks import OutputPaddedConv
from resvox.blueprint.node import Node
from resvox.blueprint.trace.dispatch import traces
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.errors import BlueprintError


def windowed(
    feature_map: FeatureMap, size: Axes, kernel: Axes, stride: Axes, dilation: Axes, channels: int
) -> FeatureMap:
    """The output of a sliding window; the receptive field grows by (kernel - 1) * dilation input strides."""
    grown = tuple(
        r + math.ceil((k - 1) * d * j)
        for r, k, d, j in zip(feature_map.receptive_field, kernel, dilation, feature_map.stride, strict=True)
    )
    strides = tuple(j * s for j, s in zip(feature_map.stride, stride, strict=True))
    return FeatureMap(channels=channels, size=size, stride=strides, receptive_field=grown)


def times(sizes: Axes) -> str:
    """Sizes of all axes as text: ``3x3x3``, ``1x3x3``."""
    return "x".join(map(str, sizes)) if len(set(sizes)) > 1 else f"{sizes[0]}" + f"x{sizes[0]}" * (len(sizes) - 1)


def _check(feature_map: FeatureMap, channels: int, path: str) -> None:
    if feature_map.channels != channels:
        raise BlueprintError(
            f"{feature_map.channels} channels arrive at {path!r}", expected=f"{channels} channels there"
        )


@traces(lf.Conv)
def _conv(node: lf.Conv, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _check(feature_map, node.in_channels, path)
    size = node.output_size(feature_map.size)
    after = windowed(feature_map, size, node.kernel, node.stride, node.dilation, node.out_channels)
    text = f"{times(node.kernel)} convolution, {node.out_channels}"
    text += f", stride {times_or_one(node.stride)}" if max(node.stride) > 1 else ""
    text += f", dilation {times_or_one(node.dilation)}" if max(node.dilation) > 1 else ""
    text += f", {node.groups} groups" if node.groups > 1 else ""
    per_voxel = 2 * node.in_channels // node.groups * math.prod(node.kernel) * node.out_channels
    return recorder.leaf(path, text, node, feature_map, after, per_voxel * math.prod(size))


def times_or_one(values: Axes) -> str:
    """One number where all axes agree, else as :func:`times`."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _phase(scale: int, stride: Fraction) -> Fraction:
    """By how much upsampling enlarges a receptive field at most.

    The exact amount depends on the position of a voxel in the coarse voxel that it comes from; this is the bound.
    """
    return stride - stride / scale


@traces(lf.TransposedConv, OutputPaddedConv)
def _transposed(node: lf.TransposedConv, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _check(feature_map, node.in_channels, path)
    size = node.output_size(feature_map.size)
    reach = tuple(
        r + math.ceil((math.ceil(k / s) - 1) * j + _phase(s, j))
        for r, k, s, j in zip(feature_map.receptive_field, node.kernel, node.stride, feature_map.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(feature_map.stride, node.stride, strict=True))
    after = FeatureMap(channels=node.out_channels, size=size, stride=strides, receptive_field=reach)
    text = f"{times(node.kernel)} transposed convolution, {node.out_channels}, stride {times_or_one(node.stride)}"
    per_voxel = 2 * node.in_channels * node.out_channels * math.prod(node.kernel)
    return recorder.leaf(path, text, node, feature_map, after, per_voxel * math.prod(feature_map.size))


@traces(lf.Norm)
def _norm(node: lf.Norm, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _check(feature_map, node.channels, path)
    text = f"{node.kind} norm" + (f", {node.groups} groups" if node.kind == "group" else "")
    return recorder.leaf(path, text, node, feature_map, feature_map, 0)


@traces(lf.Activation)
def _activation(node: lf.Activation, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    return recorder.leaf(path, node.kind, node, feature_map, feature_map, 0)


@traces(lf.MaxPool, lf.ZeroPaddedMaxPool)
def _max_pool(node: lf.MaxPool, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    size, ones = node.output_size(feature_map.size), (1,) * len(feature_map.size)
    after = windowed(feature_map, size, node.kernel, node.stride, ones, feature_map.channels)
    text = f"{times(node.kernel)} max pooling, stride {times_or_one(node.stride)}"
    return recorder.leaf(path, text, node, feature_map, after, 0)


@traces(lf.AveragePool)
def _average_pool(node: lf.AveragePool, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    size, ones = node.output_size(feature_map.size), (1,) * len(feature_map.size)
    after = windowed(feature_map, size, node.kernel, node.stride, ones, feature_map.channels)
    text = f"{times(node.kernel)} average pooling"
    text += f", stride {times_or_one(node.stride)}" if node.stride != node.kernel else ""
    return recorder.leaf(path, text, node, feature_map, after, 0)


@traces(lf.GlobalAveragePool)
def _global_pool(node: lf.GlobalAveragePool, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    # The single voxel that is left depends on all voxels: its field grows by the distance from first to last.
    grown = tuple(
        r + math.ceil((n - 1) * j)
        for r, n, j in zip(feature_map.receptive_field, feature_map.size, feature_map.stride, strict=True)
    )
    strides = tuple(n * j for n, j in zip(feature_map.size, feature_map.stride, strict=True))
    after = FeatureMap(
        channels=feature_map.channels, size=(1,) * len(feature_map.size), stride=strides, receptive_field=grown
    )
    return recorder.leaf(path, "global average pooling", node, feature_map, after, 0)


@traces(lf.Upsample)
def _upsample(node: lf.Upsample, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    mixes = node.mode == "linear"
    reach = tuple(
        r + math.ceil((j if mixes and s > 1 else 0) + _phase(s, j))
        for r, s, j in zip(feature_map.receptive_field, node.scale, feature_map.stride, strict=True)
    )
    strides = tuple(j / s for j, s in zip(feature_map.stride, node.scale, strict=True))
    after = FeatureMap(
        channels=feature_map.channels, size=node.output_size(feature_map.size), stride=strides, receptive_field=reach
    )
    return recorder.leaf(path, f"{node.mode} upsampling, {times_or_one(node.scale)}", node, feature_map, after, 0)


@traces(lf.Linear)
def _linear(node: lf.Linear, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _check(feature_map, node.in_features, path)
    # tokens keep their axis; a pooled map has no spatial axes any more
    flat = feature_map if feature_map.tokens else replace(feature_map, size=())
    after = replace(flat, channels=node.out_features)
    flops = 2 * node.in_features * node.out_features * math.prod(flat.size)
    return recorder.leaf(path, f"linear, {node.out_features}", node, flat, after, flops)


@traces(lf.DropPath, lf.Dropout, lf.Identity)
def _same(node: Node, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    return feature_map
