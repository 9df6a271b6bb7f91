"""timm: ResNets with its variants of stem, shortcut and gate, and pre-activation ResNets."""

from __future__ import annotations

from resvox.errors import WeightsError
from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Evidence, Importer, Options, Peer
from resvox.weights.importers.rows import PREACTIVATION_BLOCK, RESNET
from resvox.weights.importers.table import Row, Table
from resvox.weights.importers.torchvision import dilations_and_norms, has_timm_extras

PREACTIVATION = Table(
    (
        Row("stem.conv", "stem.conv"),
        Row("stem.conv{n}", "stem.conv{n}"),
        Row("stem.norm{n}", "stem.norm{n}", "norm"),
        Row(PREACTIVATION_BLOCK + "norm{n}", PREACTIVATION_BLOCK + "norm{n}", "norm"),
        Row(PREACTIVATION_BLOCK + "conv{n}", PREACTIVATION_BLOCK + "conv{n}"),
        Row(PREACTIVATION_BLOCK + "se.fc{n}", PREACTIVATION_BLOCK + "se.fc{n}"),
        Row(PREACTIVATION_BLOCK + "downsample.conv", PREACTIVATION_BLOCK + "downsample.conv"),
        Row("norm", "norm", "norm"),
        Row("head.fc", "head.fc", shape="conv"),
    )
)


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    if found.is_preactivation and found.deep_stem:
        raise WeightsError(
            "timm's pre-activation network with three convolutions in its stem",
            expected="one without averaging in its shortcuts, which no file records",
            fix="resnetv2_50 and the like are read",
        )
    return dilations_and_norms(found)


def _is_likely(evidence: Evidence) -> bool:
    return evidence.spatial_dims == 2 and has_timm_extras(evidence) and not evidence.has_shortcut_bias


PEER = Peer(
    importers=(
        Importer(
            peer="timm",
            title="timm",
            table=RESNET,
            peer_defaults=_peer_defaults,
            is_likely=_is_likely,
            spatial_dims=(2,),
        ),
        Importer(
            peer="timm",
            title="timm, pre-activation",
            table=PREACTIVATION,
            peer_defaults=_peer_defaults,
            spatial_dims=(2,),
        ),
    )
)
