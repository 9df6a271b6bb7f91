"""torchvision: 2D classifiers, and ``torchvision.models.video``."""

from __future__ import annotations

from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Evidence, Importer, Options, Peer
from resvox.weights.importers.rows import RESNET
from resvox.weights.importers.table import Row, Table

_DILATED: tuple[Options, ...] = ({}, {"output_stride": 16}, {"output_stride": 8})
_NO_STATISTICS: tuple[Options, ...] = ({"norm": ("group", {"num_groups": 32})}, {"norm": "group"}, {"norm": "instance"})
VIDEO = Table(
    (
        Row("conv1", "stem.0"),
        Row("bn1", "stem.1", "norm"),
        Row("layer{s}.{b}.conv{n}", "layer{s}.{b}.conv{n}.0"),
        Row("layer{s}.{b}.bn{n}", "layer{s}.{b}.conv{n}.1", "norm"),
        Row("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.0"),
        Row("layer{s}.{b}.downsample.1", "layer{s}.{b}.downsample.1", "norm"),
        Row("fc", "fc"),
    )
)


def dilations_and_norms(found: Architecture) -> tuple[Options, ...]:
    """Neither dilation (``replace_stride_with_dilation``) nor the groups of a group norm change a tensor's shape."""
    if found.has_statistics:
        return _DILATED
    return tuple({**norm, **dilated} for norm in _NO_STATISTICS for dilated in _DILATED)


def _video(found: Architecture) -> tuple[Options, ...]:
    return ({"strides": ((1, 2, 2), 1, 2, 2, 2)},)


def has_timm_extras(evidence: Evidence) -> bool:
    """Whether there are gates, a stem of three convolutions or averaging shortcuts, which torchvision does not have."""
    return evidence.has(r"\.se\.|^conv1\.0\.|downsample\.2\.")


def _is_likely(evidence: Evidence) -> bool:
    return evidence.spatial_dims == 2 and not has_timm_extras(evidence) and not evidence.has_shortcut_bias


PEER = Peer(
    importers=(
        Importer(
            peer="torchvision",
            title="torchvision-style",
            table=RESNET,
            peer_defaults=dilations_and_norms,
            is_likely=_is_likely,
            spatial_dims=(2,),
        ),
        Importer(peer="torchvision", title="torchvision video", table=VIDEO, peer_defaults=_video, spatial_dims=(3,)),
    )
)
