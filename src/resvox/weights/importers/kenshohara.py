"""kenshohara's 3D ResNets for video, with torchvision's names."""

from __future__ import annotations

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Importer, Options, Peer
from resvox.weights.importers.monai import STEM
from resvox.weights.importers.rows import RESNET


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    return ({"strides": ((1, 2, 2), 2, 2, 2, 2)}, {})


PEER = Peer(
    importers=(
        Importer(
            peer="kenshohara",
            title="kenshohara 3D ResNets",
            table=RESNET,
            peer_defaults=_peer_defaults,
            unconstrained=STEM,  # its options are those that MONAI took over
            spatial_dims=(3,),
        ),
    )
)
