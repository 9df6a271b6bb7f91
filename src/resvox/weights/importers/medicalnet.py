"""MedicalNet: 3D ResNets trained on scans, with torchvision's names."""

from __future__ import annotations

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Evidence, Importer, Options, Peer
from resvox.weights.importers.rows import RESNET

HEAD = "conv_seg."


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    return ({"output_stride": 8, "dilate_first_block": True},)


def _is_likely(evidence: Evidence) -> bool:
    """Its files have one channel, no classifier, and the prefix of DataParallel or the segmentation head."""
    if evidence.spatial_dims != 3 or evidence.has_classifier or evidence.has_shortcut_bias:
        return False
    marked = "module." in evidence.wrappers or any(name.startswith(HEAD) for name in evidence.shapes)
    return marked and evidence.in_channels == 1


PEER = Peer(
    importers=(
        Importer(
            peer="medicalnet",
            title="MedicalNet",
            table=RESNET,
            peer_defaults=_peer_defaults,
            is_likely=_is_likely,
            heads=((HEAD, "MedicalNet's segmentation head"),),
            spatial_dims=(3,),
        ),
    )
)
