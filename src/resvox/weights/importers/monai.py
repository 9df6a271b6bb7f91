"""MONAI: ResNet with torchvision's names, and its segmentation networks, 2D or 3D."""

from __future__ import annotations

from functools import partial

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Evidence, Importer, Options, Peer
from resvox.weights.importers.monai_networks import importers_of_blueprint, importers_of_shapes, segresnet_importer
from resvox.weights.importers.rows import RESNET

NAME = "monai"
# `conv1_t_stride`, `conv1_t_size` and `no_max_pool` change the stem; no file records them
STEM = (("conv1", "stride"), ("maxpool", "pooling"), ("maxpool", "stride"), ("maxpool", "kernel"))


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    """``conv1_t_stride`` is 1 by default."""
    return ({"strides": (1, 2, 2, 2, 2)}, {})


def _is_likely(evidence: Evidence) -> bool:
    volumes_of_one_channel = evidence.spatial_dims == 3 and evidence.in_channels == 1
    return evidence.has_shortcut_bias or (volumes_of_one_channel and evidence.has_classifier)


PEER = Peer(
    importers=(
        Importer(
            peer=NAME,
            title="MONAI",
            table=RESNET,
            peer_defaults=_peer_defaults,
            is_likely=_is_likely,
            unconstrained=STEM,
        ),
        segresnet_importer(NAME),
    ),
    of_shapes=partial(importers_of_shapes, NAME),
    of_blueprint=partial(importers_of_blueprint, NAME),
)
