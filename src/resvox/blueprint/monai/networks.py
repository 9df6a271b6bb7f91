"""The nodes of MONAI's segmentation networks, whose encoders are their own: SegResNet, SegResNetDS and UNet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resvox.blueprint.leaves import Activation, Axes, Conv, Dropout, Norm, TransposedConv, Upsample, require
from resvox.blueprint.node import Node, Sequence, TensorSpec


@dataclass(frozen=True, kw_only=True)
class PReLU(Node):
    """Leaky ReLU with a learned slope, one for all channels (arXiv:1502.01852). Weight (1,)."""

    initial_slope: float = 0.25

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer."""
        yield "weight", TensorSpec(shape=(1,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class OutputPaddedConv(TransposedConv):
    """Up-convolution of an odd kernel: kernel - 2 * padding is 1, and the far border is ``stride - 1`` voxels longer.

    Output voxel ``stride * n`` lies on input voxel n. Output size: each axis times its stride.
    """

    def check_multiple(self) -> None:
        """The condition under which a size is multiplied exactly."""
        require(
            all(k - 2 * p == 1 for k, p in zip(self.kernel, self.padding, strict=True)),
            f"transposed convolution kernel={self.kernel}, padding={self.padding} with output padding",
            "an odd kernel, and half of it as padding",
        )

    @property
    def output_padding(self) -> Axes:
        """Voxels that the far border is longer by."""
        return tuple(s - 1 for s in self.stride)


@dataclass(frozen=True, kw_only=True)
class ConvUnit(Node):
    """A convolution, or a transposed one, then norm, dropout and activation."""

    conv: Conv | TransposedConv
    norm: Norm | None
    dropout: Dropout | None
    act: Activation | PReLU | None


@dataclass(frozen=True, kw_only=True)
class ResidualUnit(Node):
    """Convolutions with norm and activation, and a shortcut (doi:10.1007/978-3-030-12029-0_40).

    ``convs`` holds a :class:`ConvUnit` per convolution. The sum with the shortcut (identity without a ``shortcut``) is
    not activated. Where ``adds`` is False there is no sum.
    """

    convs: Sequence
    shortcut: Conv | None
    adds: bool

    @property
    def stride(self) -> Axes:
        """The stride of its first convolution; the others have none."""
        first = self.convs.items[0]
        assert isinstance(first, ConvUnit)
        return first.conv.stride


@dataclass(frozen=True, kw_only=True)
class MonaiUNetEncoder(Node):
    """One unit per level, fine to coarse; P1 is the output of the first one."""

    levels: Sequence

    @property
    def strides(self) -> tuple[Axes, ...]:
        """Stride of each level relative to the level above it."""
        return tuple(unit.stride for unit in self.levels.items if isinstance(unit, ResidualUnit))


@dataclass(frozen=True, kw_only=True)
class MonaiUpLevel(Node):
    """A transposed convolution, cropped to the level above; then a residual unit."""

    up: ConvUnit
    unit: ResidualUnit | None


@dataclass(frozen=True, kw_only=True)
class MonaiUNetDecoder(Node):
    """Levels, deep to shallow; each reads the skip of its level and the map below, concatenated in this order."""

    levels: Sequence


@dataclass(frozen=True, kw_only=True)
class MonaiUNet(Node):
    """MONAI's UNet: residual units whose strides begin at the image; ``head`` is the last level of its decoder."""

    encoder: MonaiUNetEncoder
    decoder: MonaiUNetDecoder
    head: MonaiUpLevel
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class SegResNetLevel(Node):
    """A strided convolution (none at the first level), then pre-activation blocks."""

    down: Conv | None
    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class SegResNetEncoder(Node):
    """A convolution, then levels, fine to coarse; P1 has the size of the image."""

    conv: Conv
    dropout: Dropout | None
    levels: Sequence

    @property
    def strides(self) -> tuple[Axes, ...]:
        """Stride of each level relative to the level above it; of the first one relative to the image."""
        downs = [level.down for level in self.levels.items if isinstance(level, SegResNetLevel)]
        return tuple(down.stride if down is not None else self.conv.stride for down in downs)


@dataclass(frozen=True, kw_only=True)
class SegResNetUpLevel(Node):
    """A convolution of one voxel (SegResNet), upsampling, cropped to the skip; the sum of both; then blocks."""

    conv: Conv | None
    up: Upsample | TransposedConv
    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class SegResNetDecoder(Node):
    """Levels, deep to shallow; the last one has the size of the image."""

    levels: Sequence


@dataclass(frozen=True, kw_only=True)
class SegResNet(Node):
    """The residual encoder and decoder of arXiv:1810.11654 without its variational branch; skips are added.

    ``head`` is norm, activation and a convolution (SegResNet), or a convolution (SegResNetDS).
    """

    encoder: SegResNetEncoder
    decoder: SegResNetDecoder
    head: Sequence | Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class SegResNetDS(SegResNet):
    """SegResNet with learned upsampling, heads on coarser levels, and flat kernels where voxels are long.

    ``supervision`` holds a head for each of the finest levels of the decoder but the last, finest first.
    """


OwnEncoder = SegResNetEncoder | MonaiUNetEncoder
