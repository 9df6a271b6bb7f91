"""segmentation_models_pytorch: U-Nets on torchvision's and timm's encoders."""

from __future__ import annotations

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Importer, Options, Peer
from resvox.weights.importers.rows import RESNET_ROWS, inside
from resvox.weights.importers.table import Row, Table

UNET = Table(
    (
        *inside(RESNET_ROWS, "encoder.", "encoder."),
        *inside(RESNET_ROWS, "encoder.", "encoder.model."),  # timm's encoders in SMP
        Row("decoder.blocks.{b}.conv{n}", "decoder.blocks.{b}.conv{n}.0"),
        Row("decoder.blocks.{b}.bn{n}", "decoder.blocks.{b}.conv{n}.1", "norm"),
        Row("head", "segmentation_head.0"),
    )
)


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    return ({}, {"decoder_interpolation": "linear"})


PEER = Peer(
    importers=(
        Importer(
            peer="smp",
            title="segmentation_models_pytorch",
            table=UNET,
            peer_defaults=_peer_defaults,
            heads=(("classification_head.", "an auxiliary classifier"),),
            spatial_dims=(2,),
        ),
    )
)
