"""The nodes of nnU-Net's networks: an encoder of any number of stages without a pooling stem, and its decoder.

Blocks are those of :mod:`resvox.blueprint.blocks`; a convolution with its norm and activation is a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

from resvox.blueprint.leaves import Activation, Axes, Conv, TransposedConv
from resvox.blueprint.node import Node, Sequence


@dataclass(frozen=True, kw_only=True)
class StagedEncoder(Node):
    """A convolution at full size (where ``stem`` is not None), then stages, fine to coarse; P1 has the image's size.

    A stage is a sequence of residual blocks, or of sequences of convolution, norm and activation; the first of them
    strides.
    """

    stem: Sequence | None
    stages: Sequence

    @property
    def strides(self) -> tuple[Axes, ...]:
        """Stride of each level relative to the level above it; of the first one relative to the image."""
        return tuple(_stride(stage.items[0]) for stage in self.stages.items if isinstance(stage, Sequence))


def _stride(node: Node) -> Axes:
    """The stride of a block: that of the convolution in it that strides."""
    convs = [child for _, child in node.children() if isinstance(child, Conv)]
    return max((conv.stride for conv in convs), key=sum)


@dataclass(frozen=True, kw_only=True)
class StagedLevel(Node):
    """Transposed convolution, cropped to the skip; the two concatenated in this order; then convolutions or blocks."""

    up: TransposedConv
    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class StagedDecoder(Node):
    """Levels, deep to shallow; the last one has the size of the image."""

    levels: Sequence


@dataclass(frozen=True, kw_only=True)
class ResEncUNet(Node):
    """U-Net with residual stages in its encoder and convolutions in its decoder (arXiv:2404.09556).

    ``supervision`` holds a :class:`SupervisionHead` for every level of the decoder but the last, finest first.
    """

    encoder: StagedEncoder
    decoder: StagedDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class PlainUNet(Node):
    """U-Net of convolutions, each with norm and activation (doi:10.1038/s41592-020-01008-z); heads as above."""

    encoder: StagedEncoder
    decoder: StagedDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class ResidualUNet(Node):
    """U-Net with residual stages in its encoder and in its decoder; ``supervision`` as above."""

    encoder: StagedEncoder
    decoder: StagedDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


StagedUNet = ResEncUNet | PlainUNet | ResidualUNet
