"""The networks: which blocks, in which order, under which names."""

from __future__ import annotations

from dataclasses import dataclass

from resvox.blueprint.leaves import Activation, Conv, GlobalAveragePool, Linear, MaxPool, Norm, Upsample
from resvox.blueprint.node import Node, Sequence


@dataclass(frozen=True, kw_only=True)
class ResNet(Node):
    """A post-activation ResNet with torchvision's names (vd and SE: timm's).

    P1 is the activated stem, P2 to P5 the outputs of layer1 to layer4. A backbone has neither ``avgpool`` nor
    ``fc``; cut at a depth, it ends with the layer that gives the deepest map asked for.
    """

    conv1: Conv | Sequence
    bn1: Norm
    act1: Activation
    maxpool: MaxPool | None
    layer1: Sequence | None
    layer2: Sequence | None
    layer3: Sequence | None
    layer4: Sequence | None
    avgpool: GlobalAveragePool | None
    fc: Linear | None
    activation: Activation | None

    @property
    def stage_list(self) -> tuple[Sequence, ...]:
        """The residual layers that are there, shallow to deep."""
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        return tuple(layer for layer in layers if layer is not None)

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return _last_channels(self.stage_list, self.bn1.channels)


@dataclass(frozen=True, kw_only=True)
class PreActStem(Node):
    """The stem of a pre-activation net: one convolution (``conv``) or three; nothing after the last."""

    conv: Conv | None
    conv1: Conv | None
    norm1: Norm | None
    act1: Activation | None
    conv2: Conv | None
    norm2: Norm | None
    act2: Activation | None
    conv3: Conv | None

    @property
    def deep(self) -> bool:
        """Whether it is the three-convolution stem."""
        return self.conv is None


@dataclass(frozen=True, kw_only=True)
class PreActStage(Node):
    """One resolution of a pre-activation net."""

    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class PreActHead(Node):
    """Mean over space, then the classifier."""

    pool: GlobalAveragePool
    fc: Linear | None


@dataclass(frozen=True, kw_only=True)
class PreActResNet(Node):
    """A pre-activation ResNet (v2) with timm's names.

    P1 is the raw stem convolution, P2 to P5 the raw residual sums; ``norm`` and ``act`` stand on the
    classifier's path alone and are left out of a backbone.
    """

    stem: PreActStem
    maxpool: MaxPool | None
    stages: Sequence
    norm: Norm | None
    act: Activation | None
    head: PreActHead | None
    activation: Activation | None

    @property
    def stage_list(self) -> tuple[Sequence, ...]:
        """The residual stages that are there, shallow to deep."""
        return tuple(stage.blocks for stage in self.stages.items if isinstance(stage, PreActStage))

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        last = self.stem.conv or self.stem.conv3
        return _last_channels(self.stage_list, last.out_channels if last else 0)


def _last_channels(stages: tuple[Sequence, ...], stem: int) -> int:
    if not stages:
        return stem
    convs = [node for node in vars(stages[-1].items[-1]).values() if isinstance(node, Conv)]
    return convs[-1].out_channels


Encoder = ResNet | PreActResNet


@dataclass(frozen=True, kw_only=True)
class UNetDecoderBlock(Node):
    """One level up: enlarge, cut to the size of the skip (or the image), join, convolve once or twice.

    ``up`` is interpolation, or a sequence of transposed convolution, norm and activation.
    """

    up: Upsample | Sequence
    joins: bool
    conv1: Conv
    bn1: Norm | None
    act1: Activation
    conv2: Conv | None
    bn2: Norm | None
    act2: Activation | None


@dataclass(frozen=True, kw_only=True)
class UNetDecoder(Node):
    """Deep to shallow; the last block reaches the size of the image and joins nothing."""

    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class UNet(Node):
    """Encoder, decoder with skips (arXiv:1505.04597), a convolution to the classes."""

    encoder: Encoder
    decoder: UNetDecoder
    head: Conv
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class DenseResNet(Node):
    """Residual layers at the input's size, one of them strided; a transposed convolution undoes the stride.

    ``layers`` holds sequences of basic blocks; ``up`` is transposed convolution, norm and activation, cut to the
    input's size; ``head`` maps the features to the output's channels.
    """

    conv1: Conv
    bn1: Norm
    act1: Activation
    layers: Sequence
    up: Sequence
    head: Sequence
    activation: Activation | None


Network = ResNet | PreActResNet | UNet | DenseResNet
