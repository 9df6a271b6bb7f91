"""Rows that several peers share, because they took torchvision's or timm's names over."""

from __future__ import annotations

from resvox.weights.importers.table import Row, Table

# torchvision's names; and timm's of "vd" networks (an average pool before the shortcut's convolution, three
# convolutions in the stem) and of squeeze-and-excitation gates
RESNET_ROWS = (
    Row("conv1", "conv1"),
    Row("bn1", "bn1", "norm"),
    Row("layer{s}.{b}.conv{n}", "layer{s}.{b}.conv{n}"),
    Row("layer{s}.{b}.bn{n}", "layer{s}.{b}.bn{n}", "norm"),
    Row("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.0"),
    Row("layer{s}.{b}.downsample.1", "layer{s}.{b}.downsample.1", "norm"),
    Row("fc", "fc"),
    Row("conv1.{i}", "conv1.{i}", "norm"),
    Row("layer{s}.{b}.downsample.2", "layer{s}.{b}.downsample.2", "norm"),
    Row("layer{s}.{b}.se.fc{n}", "layer{s}.{b}.se.fc{n}"),
)
RESNET = Table(RESNET_ROWS)
PREACTIVATION_BLOCK = "stages.{s}.blocks.{b}."  # our path of a block of a pre-activation network


def inside(rows: tuple[Row, ...], ours: str, theirs: str) -> tuple[Row, ...]:
    """The rows of an encoder within a segmentation model: a prefix on either side, and no classifier."""
    return tuple(Row(ours + row.ours, theirs + row.theirs, row.kind) for row in rows if row.ours != "fc")
