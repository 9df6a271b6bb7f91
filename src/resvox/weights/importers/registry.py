"""The peers, and how a file is recognised as theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resvox.blueprint import Blueprint
from resvox.errors import WeightsError
from resvox.weights.architecture import Architecture
from resvox.weights.importers import tables
from resvox.weights.importers.importer import Importer, Options

Shapes = Mapping[str, tuple[int, ...]]

STEM_IS_FREE = (("conv1", "stride"), ("maxpool", "pooling"), ("maxpool", "stride"), ("maxpool", "kernel"))
KERAS_NORM = ("batch", {"eps": 1.001e-5, "momentum": 0.01})
_DILATED: tuple[Options, ...] = ({}, {"output_stride": 16}, {"output_stride": 8})
_NO_STATISTICS: tuple[Options, ...] = ({"norm": ("group", {"num_groups": 32})}, {"norm": "group"}, {"norm": "instance"})


def _torchvision(found: Architecture) -> tuple[Options, ...]:
    """``replace_stride_with_dilation`` and, in timm, ``output_stride`` change no tensor; nor do group norm's groups."""
    if found.has_statistics:
        return _DILATED
    return tuple({**norm, **dilated} for norm in _NO_STATISTICS for dilated in _DILATED)


def _timm(found: Architecture) -> tuple[Options, ...]:
    if found.is_preactivation and found.deep_stem:
        raise WeightsError(
            "timm's pre-activation net with three convolutions in its stem",
            expected="one that does not average in its shortcuts, which no file tells",
            fix="resnetv2_50 and the like are read",
        )
    return _torchvision(found)


def _video(found: Architecture) -> tuple[Options, ...]:
    return ({"strides": ((1, 2, 2), 1, 2, 2, 2)},)


def _monai(found: Architecture) -> tuple[Options, ...]:
    """``conv1_t_stride`` is 1 unless said otherwise, and no file says it."""
    return ({"strides": (1, 2, 2, 2, 2)}, {})


def _medicalnet(found: Architecture) -> tuple[Options, ...]:
    return ({"output_stride": 8, "dilate_first_block": True},)


def _kenshohara(found: Architecture) -> tuple[Options, ...]:
    return ({"strides": ((1, 2, 2), 2, 2, 2, 2)}, {})


def _smp(found: Architecture) -> tuple[Options, ...]:
    return ({}, {"decoder_interpolation": "linear"})


def _keras_v1(found: Architecture) -> tuple[Options, ...]:
    return ({"stride_on": "conv1", "norm": KERAS_NORM},)


def _keras_v2(found: Architecture) -> tuple[Options, ...]:
    return ({"stride_block": "last", "pool_padding": "zeros", "norm": KERAS_NORM},)


def _medicai(found: Architecture) -> tuple[Options, ...]:
    habits: dict[str, Any] = {}
    if found.is_gated and not found.is_preactivation:
        habits["se_placement"] = "before_norm"
    if found.name == "unet":
        return (
            {**habits, "decoder_normalization": ("batch", {"eps": 1e-3, "momentum": 0.01})},
            {**habits, "decoder_normalization": None},
        )
    return (habits,)


IMPORTERS: tuple[Importer, ...] = (
    Importer(
        peer="torchvision", title="torchvision-style", table=tables.TORCHVISION, habits=_torchvision, spatial_dims=(2,)
    ),
    Importer(peer="timm", title="timm", table=tables.TORCHVISION, habits=_timm, spatial_dims=(2,)),
    Importer(peer="timm", title="timm, pre-activation", table=tables.TIMM_V2, habits=_timm, spatial_dims=(2,)),
    Importer(
        peer="torchvision",
        title="torchvision video",
        table=tables.TORCHVISION_VIDEO,
        habits=_video,
        spatial_dims=(3,),
    ),
    Importer(peer="monai", title="MONAI", table=tables.TORCHVISION, habits=_monai, free=STEM_IS_FREE),
    Importer(
        peer="medicalnet",
        title="MedicalNet",
        table=tables.TORCHVISION,
        habits=_medicalnet,
        heads=(("conv_seg.", "MedicalNet's segmentation head"),),
        spatial_dims=(3,),
    ),
    Importer(
        peer="kenshohara",
        title="kenshohara 3D ResNets",
        table=tables.TORCHVISION,
        habits=_kenshohara,
        free=STEM_IS_FREE,
        spatial_dims=(3,),
    ),
    Importer(
        peer="smp",
        title="segmentation_models_pytorch",
        table=tables.SMP,
        habits=_smp,
        heads=(("classification_head.", "an auxiliary classifier"),),
        spatial_dims=(2,),
    ),
    Importer(
        peer="keras.applications",
        title="keras.applications ResNet",
        table=tables.KERAS_V1,
        habits=_keras_v1,
        spatial_dims=(2,),
    ),
    Importer(
        peer="keras.applications",
        title="keras.applications ResNetV2",
        table=tables.KERAS_V2,
        habits=_keras_v2,
        spatial_dims=(2,),
    ),
    Importer(peer="medicai", title="medicai ResNet", table=tables.MEDICAI_V1, habits=_medicai),
    Importer(peer="medicai", title="medicai ResNet vd", table=tables.MEDICAI_VD, habits=_medicai),
    Importer(peer="medicai", title="medicai ResNet v2", table=tables.MEDICAI_V2, habits=_medicai),
)
PEERS = tuple(dict.fromkeys([*(each.peer for each in IMPORTERS), "resvox"]))
_UNNAMED = re.compile(r"(conv[23]d(?:_\d+)?)/kernel")
_STAGE = re.compile(r"decoder_stage(\d)_conv_1_conv_([23])D/kernel")


def candidates(shapes: Shapes, style: str, peer: str | None) -> list[Importer]:
    """The importers whose tables hold most of the names; of one peer, where it is said.

    Raises:
        WeightsError: a peer that is none.
    """
    if peer is not None and peer not in PEERS:
        raise WeightsError(f"peer={peer!r}", expected="one of " + ", ".join(PEERS))
    known = [*IMPORTERS, *_medicai_unets(shapes)]
    fitting = [each for each in known if each.style == style and peer in (None, each.peer)]
    scores = [sum(_knows(each, name) for name in shapes) for each in fitting]
    best = max(scores, default=0)
    return [each for each, score in zip(fitting, scores, strict=True) if score == best and best > 0]


def _knows(importer: Importer, name: str) -> bool:
    return importer.table.ours(name) is not None or bool(importer.head(name) or importer.dropped(name))


def _medicai_unets(shapes: Shapes) -> list[Importer]:
    stages = [found for found in map(_STAGE.fullmatch, shapes) if found]
    if not stages:
        return []
    depth, dims = max(int(each[1]) for each in stages), int(stages[0][2])
    heads = [found[1] for found in map(_UNNAMED.fullmatch, shapes) if found]
    head = heads[0] if heads else f"conv{dims}d"
    encoders = (tables.MEDICAI_V1, tables.MEDICAI_VD, tables.MEDICAI_V2)
    return [
        Importer(
            peer="medicai",
            title="medicai UNet",
            table=tables.medicai_unet(encoder, depth, dims, head),
            habits=_medicai,
            left_out=(("encoder/", "a stage of the encoder that the network does not use"),),
        )
        for encoder in encoders
    ]


def importers_of(peer: str, blueprint: Blueprint) -> list[Importer]:
    """A peer's importers, those of its segmentation models for a blueprint of one."""
    shapes = {}
    if blueprint.task == "segmentation":
        depth = sum(1 for name in blueprint.tensors() if re.fullmatch(r"decoder\.blocks\.\d+\.conv1\.weight", name))
        shapes = {f"decoder_stage{depth}_conv_1_conv_{blueprint.spatial_dims}D/kernel": (1,)}
    return [each for each in (*IMPORTERS, *_medicai_unets(shapes)) if each.peer == peer]


def choose(found: list[Importer], shapes: Shapes, wrappers: tuple[str, ...], where: str) -> Importer:
    """The one importer of several that share their names, by what else tells them apart.

    Raises:
        WeightsError: nothing does, and they compute different things.
    """
    dims = max((len(shape) - 2 for name, shape in shapes.items() if len(shape) > 3), default=2)
    kept = [each for each in found if dims in each.spatial_dims] or found
    by_peer = {each.peer: each for each in reversed(kept)}
    if len(by_peer) < 2:
        return kept[0]
    if any(re.search(r"downsample\.0\.bias$", name) for name in shapes) and "monai" in by_peer:
        return by_peer["monai"]
    if dims == 2:
        extras = any(re.search(r"\.se\.|^conv1\.0\.|downsample\.2\.", name) for name in shapes)
        return by_peer["timm" if extras or "torchvision" not in by_peer else "torchvision"]
    # 3D: MedicalNet's files have one channel, no classifier, and DataParallel's prefix
    if "medicalnet" in by_peer and "fc.weight" not in shapes and shapes.get("conv1.weight", (0, 0))[1] == 1:
        if "module." in wrappers or any(name.startswith("conv_seg.") for name in shapes):
            return by_peer["medicalnet"]
    elif "monai" in by_peer and shapes.get("conv1.weight", (0, 0))[1] == 1:
        return by_peer["monai"]
    names = " or ".join(repr(each) for each in by_peer)
    raise WeightsError(
        f"names and shapes that {names} share, who compute different things with them",
        expected="to be told whose file it is",
        fix=f"say peer={names}",
        path=where,
    )
