"""keras.applications: ResNet and ResNetV2."""

from __future__ import annotations

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Importer, Options, Peer
from resvox.weights.importers.rows import PREACTIVATION_BLOCK
from resvox.weights.importers.table import Row, Table

NORM = ("batch", {"eps": 1.001e-5, "momentum": 0.01})
RESNET = Table(
    (
        Row("conv1", "conv1_conv"),
        Row("bn1", "conv1_bn", "norm"),
        # a file lists a block's layers in this order where the block projects
        Row("layer{s}.{b}.conv1", "conv{s+1}_block{b+1}_1_conv"),
        Row("layer{s}.{b}.bn1", "conv{s+1}_block{b+1}_1_bn", "norm"),
        Row("layer{s}.{b}.conv2", "conv{s+1}_block{b+1}_2_conv"),
        Row("layer{s}.{b}.bn2", "conv{s+1}_block{b+1}_2_bn", "norm"),
        Row("layer{s}.{b}.downsample.0", "conv{s+1}_block{b+1}_0_conv"),
        Row("layer{s}.{b}.conv3", "conv{s+1}_block{b+1}_3_conv"),
        Row("layer{s}.{b}.downsample.1", "conv{s+1}_block{b+1}_0_bn", "norm"),
        Row("layer{s}.{b}.bn3", "conv{s+1}_block{b+1}_3_bn", "norm"),
        Row("fc", "predictions"),
    ),
    style="keras",
)
RESNET_V2 = Table(
    (
        Row("stem.conv", "conv1_conv"),
        Row(PREACTIVATION_BLOCK + "norm1", "conv{s+2}_block{b+1}_preact_bn", "norm"),
        Row(PREACTIVATION_BLOCK + "conv1", "conv{s+2}_block{b+1}_1_conv"),
        Row(PREACTIVATION_BLOCK + "norm2", "conv{s+2}_block{b+1}_1_bn", "norm"),
        Row(PREACTIVATION_BLOCK + "conv2", "conv{s+2}_block{b+1}_2_conv"),
        Row(PREACTIVATION_BLOCK + "norm3", "conv{s+2}_block{b+1}_2_bn", "norm"),
        Row(PREACTIVATION_BLOCK + "downsample.conv", "conv{s+2}_block{b+1}_0_conv"),
        Row(PREACTIVATION_BLOCK + "conv3", "conv{s+2}_block{b+1}_3_conv"),
        Row("norm", "post_bn", "norm"),
        Row("head.fc", "predictions"),
    ),
    style="keras",
)


def _resnet(found: Architecture) -> tuple[Options, ...]:
    return ({"stride_on": "conv1", "norm": NORM},)


def _resnet_v2(found: Architecture) -> tuple[Options, ...]:
    return ({"stride_block": "last", "pool_padding": "zeros", "norm": NORM},)


PEER = Peer(
    importers=(
        Importer(
            peer="keras.applications",
            title="keras.applications ResNet",
            table=RESNET,
            peer_defaults=_resnet,
            spatial_dims=(2,),
        ),
        Importer(
            peer="keras.applications",
            title="keras.applications ResNetV2",
            table=RESNET_V2,
            peer_defaults=_resnet_v2,
            spatial_dims=(2,),
        ),
    )
)
