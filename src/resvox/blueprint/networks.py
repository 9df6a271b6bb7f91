"""The networks: their blocks, in order and by name."""

from __future__ import annotations

from dataclasses import dataclass

from resvox.blueprint.leaves import Activation, Conv, GlobalAveragePool, Linear, MaxPool, Norm, Upsample
from resvox.blueprint.monai.networks import MonaiUNet, OwnEncoder, SegResNet, SegResNetDS
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.staged.networks import StagedEncoder, StagedUNet
from resvox.blueprint.transformers import QueryDecoder, VisionTransformer


@dataclass(frozen=True, kw_only=True)
class ResNet(Node):
    """A post-activation ResNet with torchvision's names (vd and SE: timm's).

    P1 is the activated stem, P2 to P5 the outputs of layer1 to layer4. A backbone has neither ``avgpool`` nor
    ``fc``; cut at a depth, it ends with the layer that gives the deepest map required.
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
        """The residual layers that exist, shallow to deep."""
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        return tuple(layer for layer in layers if layer is not None)

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return _last_channels(self.stage_list, self.bn1.channels)


@dataclass(frozen=True, kw_only=True)
class PreActStem(Node):
    """The stem of a pre-activation net: one convolution (``conv``) or three; no norm or activation after the last."""

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

    P1 is the raw stem convolution, P2 to P5 the raw residual sums; ``norm`` and ``act`` precede
    the classifier and are left out of a backbone.
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
        """The residual stages that exist, shallow to deep."""
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
class AttentionGate(Node):
    """Weights of a skip connection, computed with the map one level below (arXiv:1804.03999): 0 to 1 per voxel.

    ``theta`` brings the skip to the size of the map below, ``phi`` that map to the same channels; their sum,
    activated, becomes one channel, which ``up`` enlarges (cut to the skip's size) and which weighs the skip.
    """

    theta: Conv
    phi: Conv
    act: Activation
    psi: Conv
    gate: Activation
    up: Upsample


@dataclass(frozen=True, kw_only=True)
class UNetDecoderBlock(Node):
    """One level of a decoder: enlarge, crop to the size of the skip, concatenate, convolve once or twice.

    ``gate`` weighs the skip first. ``up`` is interpolation, or a sequence of transposed convolution, norm and
    activation. It joins one map; in a UNet++, several of one size.
    """

    gate: AttentionGate | None
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
    """Blocks, deep to shallow; the last one reaches the size of the image and has no skip."""

    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class SupervisionHead(Node):
    """Auxiliary logits of a decoder map, enlarged and cropped to the size of the image; computed in training only."""

    conv: Conv
    up: Upsample


@dataclass(frozen=True, kw_only=True)
class UNet(Node):
    """Encoder, decoder with skips (arXiv:1505.04597), a convolution to the classes.

    ``supervision`` holds a :class:`SupervisionHead` for every decoder block but the last, finest first.
    """

    encoder: Encoder
    decoder: UNetDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class AttentionUNet(Node):
    """A U-Net whose decoder blocks hold an :class:`AttentionGate` where they join a skip (arXiv:1804.03999)."""

    encoder: Encoder
    decoder: UNetDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class UNetPlusPlusDecoder(Node):
    """The grid of nodes X(i, j) between encoder and head (arXiv:1912.05074), N rows and columns.

    ``rows`` go deep to shallow: ``rows.0`` holds X(N - 1, 1), the last one X(0, 1) to X(0, N). X(i, j) enlarges
    X(i + 1, j - 1) and joins X(i, 0) to X(i, j - 1), where X(i, 0) is the encoder's P(i + 1). ``bridge`` brings the
    finest row to the size of the image: interpolation, or a sequence of transposed convolution, norm and activation.
    """

    rows: Sequence
    bridge: Upsample | Sequence


@dataclass(frozen=True, kw_only=True)
class BridgedHead(Node):
    """Logits from a node of a UNet++'s finest row by a learned ``bridge`` of its own; asked for in training alone.

    A bridge that the heads shared would blend the statistics of all the row's nodes in its norm.
    """

    bridge: Sequence
    conv: Conv


@dataclass(frozen=True, kw_only=True)
class UNetPlusPlus(Node):
    """Encoder, the nested decoder of UNet++ (arXiv:1912.05074), a convolution to the classes.

    ``supervision`` holds a convolution for each of X(0, N - 1) to X(0, 1), applied to the output of the bridge, as
    ``head`` is for X(0, N); where the bridge is learned, a :class:`BridgedHead` for each.
    """

    encoder: Encoder
    decoder: UNetPlusPlusDecoder
    head: Conv
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class TransDecoder(Node):
    """A transformer on the deepest map, learned class queries (cross-attention), and a decoder with skips.

    ``up`` enlarges the transformer's map and the class scores of the queries, concatenated, from tokens to the size of
    the deepest map; ``blocks`` go from there to P1.
    """

    vit: VisionTransformer
    queries: QueryDecoder
    up: Upsample
    conv: Conv
    bn: Norm | None
    act: Activation
    blocks: Sequence


@dataclass(frozen=True, kw_only=True)
class TransUNet(Node):
    """The CNN and transformer hybrid of arXiv:2102.04306 with the learnable queries of arXiv:2310.07781.

    ``head`` is a convolution on the last map of the decoder, which has P1's size, and an enlarging of its logits,
    cropped to the size of the image. ``supervision`` holds a :class:`SupervisionHead` for the other maps, finest first.
    """

    encoder: Encoder
    decoder: TransDecoder
    head: Sequence
    supervision: Sequence | None
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class DenseResNet(Node):
    """Residual layers at the input's size, one of them strided; a transposed convolution undoes the stride.

    ``layers`` holds sequences of basic blocks; ``up`` is transposed convolution, norm and activation, cropped to
    the input's size; ``head`` maps the features to the output's channels.
    """

    conv1: Conv
    bn1: Norm
    act1: Activation
    layers: Sequence
    up: Sequence
    head: Sequence
    activation: Activation | None


AnyEncoder = Encoder | StagedEncoder | OwnEncoder
Segmenter = UNet | AttentionUNet | UNetPlusPlus | TransUNet | StagedUNet | SegResNet | SegResNetDS | MonaiUNet
Network = ResNet | PreActResNet | Segmenter | DenseResNet
