"""medicai: ResNets, and U-Nets whose names depend on their depth and number of spatial axes."""

from __future__ import annotations

import re
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.networks import PreActResNet
from resvox.weights.architecture import Architecture
from resvox.weights.comparison import encoder_of
from resvox.weights.importers.importer import Importer, Options, Peer, Shapes
from resvox.weights.importers.rows import PREACTIVATION_BLOCK, inside
from resvox.weights.importers.table import Row, Table

# in medicai's blocks the shortcut's layers are number 0, so they stand before the others
_GATE = "stack{s}_block{b}_squeeze_excitation/conv{n}"
_STAGE_GATE = Row("layer{s}.{b}.se.fc{n}", _GATE.replace("{s}", "{s-1}"))
RESNET = Table(
    (
        Row("conv1", "conv1_conv"),
        Row("bn1", "conv1_bn", "norm"),
        Row("layer{s}.{b}.downsample.0", "stack{s-1}_block{b}_0_conv"),
        Row("layer{s}.{b}.downsample.1", "stack{s-1}_block{b}_0_bn", "norm"),
        Row("layer{s}.{b}.conv{n}", "stack{s-1}_block{b}_{n}_conv"),
        Row("layer{s}.{b}.bn{n}", "stack{s-1}_block{b}_{n}_bn", "norm"),
        _STAGE_GATE,
        Row("fc", "predictions"),
    ),
    style="keras",
)
RESNET_VD = Table(
    (
        Row("conv1.0", "conv1_conv"),
        Row("conv1.1", "conv1_bn", "norm"),
        Row("conv1.3", "conv2_conv"),
        Row("conv1.4", "conv2_bn", "norm"),
        Row("conv1.6", "conv3_conv"),
        Row("bn1", "conv3_bn", "norm"),
        Row("layer{s}.{b}.downsample.1", "stack{s-1}_block{b}_0_conv"),
        Row("layer{s}.{b}.downsample.2", "stack{s-1}_block{b}_0_bn", "norm"),
        Row("layer{s}.{b}.conv{n}", "stack{s-1}_block{b}_{n}_conv"),
        Row("layer{s}.{b}.bn{n}", "stack{s-1}_block{b}_{n}_bn", "norm"),
        _STAGE_GATE,
        Row("fc", "predictions"),
    ),
    style="keras",
)
RESNET_V2 = Table(
    (
        Row("stem.conv", "conv1_conv"),
        Row(PREACTIVATION_BLOCK + "norm1", "stack{s}_block{b}_pre_activation_bn", "norm"),
        Row(PREACTIVATION_BLOCK + "downsample.conv", "stack{s}_block{b}_0_conv"),
        Row(PREACTIVATION_BLOCK + "conv{n}", "stack{s}_block{b}_{n}_conv"),
        Row(PREACTIVATION_BLOCK + "norm{n+1}", "stack{s}_block{b}_{n}_bn", "norm"),
        Row(PREACTIVATION_BLOCK + "se.fc{n}", _GATE),
        Row("norm", "post_bn", "norm"),
        Row("head.fc", "predictions"),
    ),
    style="keras",
)
_DECODER_STAGE = re.compile(r"decoder_stage(\d)_conv_1_conv_([23])D/kernel")
_UNNAMED_CONV = re.compile(r"(conv[23]d(?:_\d+)?)/kernel")


def unet_table(encoder: Table, depth: int, spatial_dims: int, head: str) -> Table:
    """The names of medicai's U-Net: its decoder counts stages from the image, ours from the deepest map.

    ``head`` is the layer whose name Keras chose, by the number of layers it had named before.
    """
    rows = list(inside(encoder.rows, "encoder.", ""))
    rows = [row for row in rows if row.ours not in ("encoder.head.fc", "encoder.norm")]
    dims = f"{spatial_dims}D"
    for block in range(depth):
        ours, theirs = f"decoder.blocks.{block}", f"decoder_stage{depth - block}"
        rows += [
            Row(f"{ours}.conv{{n}}", f"{theirs}_conv_{{n}}_conv_{dims}"),
            Row(f"{ours}.bn{{n}}", f"{theirs}_conv_{{n}}_norm_{dims}", "norm"),
            Row(f"{ours}.up.0", f"{theirs}_transpose_conv_{dims}"),
            Row(f"{ours}.up.1", f"{theirs}_norm_{dims}", "norm"),
        ]
    rows.append(Row("head", head))
    return Table(tuple(rows), style="keras")


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    defaults: dict[str, Any] = {}
    if found.is_gated and not found.is_preactivation:
        defaults["se_placement"] = "before_norm"
    if found.name == "unet":
        return (
            {**defaults, "decoder_normalization": ("batch", {"eps": 1e-3, "momentum": 0.01})},
            {**defaults, "decoder_normalization": None},
        )
    return (defaults,)


def _unets(depth: int, spatial_dims: int, head: str) -> tuple[Importer, ...]:
    return tuple(
        Importer(
            peer="medicai",
            title="medicai UNet",
            table=unet_table(encoder, depth, spatial_dims, head),
            peer_defaults=_peer_defaults,
            left_out=(("encoder/", "a stage of the encoder that the network does not use"),),
        )
        for encoder in (RESNET, RESNET_VD, RESNET_V2)
    )


def _of_shapes(shapes: Shapes) -> tuple[Importer, ...]:
    stages = [found for found in map(_DECODER_STAGE.fullmatch, shapes) if found]
    if not stages:
        return ()
    depth, dims = max(int(each[1]) for each in stages), int(stages[0][2])
    heads = [found[1] for found in map(_UNNAMED_CONV.fullmatch, shapes) if found]
    return _unets(depth, dims, heads[0] if heads else f"conv{dims}d")


def _of_blueprint(blueprint: Blueprint) -> tuple[Importer, ...]:
    depth = sum(1 for name in blueprint.tensors() if re.fullmatch(r"decoder\.blocks\.\d+\.conv1\.weight", name))
    return _unets(depth, blueprint.spatial_dims, f"conv{blueprint.spatial_dims}d") if depth else ()


def _objection(blueprint: Blueprint) -> tuple[str, str] | None:
    encoder = encoder_of(blueprint.network)
    if encoder is blueprint.network or not isinstance(encoder, PreActResNet):
        return None
    return (
        "a pre-activation encoder of a segmentation model, for medicai",
        "a post-activation one: medicai keeps a last norm that no layer reads, and needs its weights",
    )


PEER = Peer(
    importers=(
        Importer(peer="medicai", title="medicai ResNet", table=RESNET, peer_defaults=_peer_defaults),
        Importer(peer="medicai", title="medicai ResNet vd", table=RESNET_VD, peer_defaults=_peer_defaults),
        Importer(peer="medicai", title="medicai ResNet v2", table=RESNET_V2, peer_defaults=_peer_defaults),
    ),
    of_shapes=_of_shapes,
    of_blueprint=_of_blueprint,
    objection=_objection,
)
