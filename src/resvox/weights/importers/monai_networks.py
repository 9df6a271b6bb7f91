"""MONAI's SegResNet, SegResNetDS and UNet: names, and what files do not record."""

from __future__ import annotations

import re
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.monai import networks as mn
from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Importer, Options, Shapes
from resvox.weights.importers.table import Row, Table

_LEVEL, _UP = "encoder.levels.{s}.", "decoder.levels.{s}."
SEGRESNET = Table(
    (
        Row("encoder.conv", "convInit.conv"),
        Row(_LEVEL + "down", "down_layers.{s}.0.conv"),
        Row(_LEVEL + "blocks.{b}.norm{n}", "down_layers.{s}.{b+1}.norm{n}", "norm"),
        Row(_LEVEL + "blocks.{b}.conv{n}", "down_layers.{s}.{b+1}.conv{n}.conv"),
        Row(_UP + "conv", "up_samples.{s}.0.conv"),
        Row(_UP + "up", "up_samples.{s}.1.deconv"),
        Row(_UP + "blocks.{b}.norm{n}", "up_layers.{s}.{b}.norm{n}", "norm"),
        Row(_UP + "blocks.{b}.conv{n}", "up_layers.{s}.{b}.conv{n}.conv"),
        Row("head.0", "conv_final.0", "norm"),
        Row("head.2", "conv_final.2.conv"),
    )
)


def segresnet_ds_table(levels: int) -> Table:
    """The names of SegResNetDS, whose decoder of that many levels keeps the heads, deepest first."""
    rows = [
        Row("encoder.conv", "encoder.conv_init"),
        Row("encoder.levels.{s+1}.down", "encoder.layers.{s}.downsample"),
        Row(_LEVEL + "blocks.{b}.norm{n}", "encoder.layers.{s}.blocks.{b}.norm{n}", "norm"),
        Row(_LEVEL + "blocks.{b}.conv{n}", "encoder.layers.{s}.blocks.{b}.conv{n}"),
        Row(_UP + "up", "up_layers.{s}.upsample.deconv"),
        Row(_UP + "blocks.{b}.norm{n}", "up_layers.{s}.blocks.{b}.norm{n}", "norm"),
        Row(_UP + "blocks.{b}.conv{n}", "up_layers.{s}.blocks.{b}.conv{n}"),
        Row("head", f"up_layers.{levels - 1}.head"),
    ]
    rows += [Row(f"supervision.{n}.conv", f"up_layers.{levels - 2 - n}.head") for n in range(levels - 1)]
    return Table(tuple(rows))


def unet_table(depth: int, *, residual: bool, prefix: str = "") -> Table:
    """The names of UNet, whose levels are nested in one another; ``depth`` counts them without the bottom."""
    rows: list[Row] = []
    for level in range(depth + 1):
        inside = prefix + "1.submodule." * level
        down = inside + "0." if level < depth else inside
        ours = f"encoder.levels.{level}."
        rows += _unit_rows(ours + "convs.{u}.", down + ("conv.unit{u}." if residual else ""), residual=residual)
        rows.append(Row(ours + "shortcut", down + "residual"))
        if level < depth:
            ours = f"decoder.levels.{depth - 1 - level}." if level else "head."
            rows += _unit_rows(ours + "up.", inside + ("2.0." if residual else "2."), residual=True)
            rows += _unit_rows(ours + "unit.convs.{u}.", inside + "2.1.conv.unit{u}.", residual=True)
    return Table(tuple(rows))


def _unit_rows(ours: str, theirs: str, *, residual: bool) -> list[Row]:
    if not residual:  # the only convolution of a level
        ours = ours.replace("{u}", "0")
    return [
        Row(ours + "conv", theirs + "conv"),
        Row(ours + "norm", theirs + "adn.N", "norm"),
        Row(ours + "act", theirs + "adn.A"),
    ]


def _norms(found: Architecture, first: Any) -> list[Any]:
    """Norms with the tensors of a file; the first is MONAI's default."""
    if found.has_statistics:
        return ["batch"]
    others: list[Any] = ["instance", *(("group", {"num_groups": groups}) for groups in (8, 4, 16, 32, 2, 1))]
    return [first, *(each for each in others if each != first)]


def _segresnet(found: Architecture) -> tuple[Options, ...]:
    return tuple({"norm": norm} for norm in _norms(found, ("group", {"num_groups": 8})))


def _segresnet_ds(found: Architecture) -> tuple[Options, ...]:
    return tuple({"norm": norm} for norm in _norms(found, "instance"))


def _unet(found: Architecture) -> tuple[Options, ...]:
    bare = found.options.get("norm", "") is None  # norm without tensors, or none at all
    norms = [("instance", {"affine": False}), None] if bare else _norms(found, "instance")
    acts = [found.options["activation"]] if "activation" in found.options else ["relu", "leaky_relu", "elu", "silu"]
    return tuple({"norm": norm, "activation": act} for norm in norms for act in acts)


def segresnet_importer(peer: str) -> Importer:
    """SegResNet; SegResNetVAE's further branch is left out."""
    branch = (("vae_", "the variational branch, for training alone"),)
    return Importer(peer=peer, title="MONAI SegResNet", table=SEGRESNET, peer_defaults=_segresnet, left_out=branch)


def _segresnet_ds_importer(peer: str, levels: int) -> Importer:
    table = segresnet_ds_table(levels)
    return Importer(peer=peer, title="MONAI SegResNetDS", table=table, peer_defaults=_segresnet_ds)


def _unet_importer(peer: str, depth: int, *, residual: bool, prefix: str = "") -> Importer:
    paths = [f"levels.{level}.{each}" for level in range(depth + 1) for each in ("convs.0.conv", "shortcut")]
    paths += [f"decoder.levels.{level}.up.conv" for level in range(depth - 1)] + ["head.up.conv"]
    return Importer(
        peer=peer,
        title="MONAI UNet",
        table=unet_table(depth, residual=residual, prefix=prefix),
        peer_defaults=_unet,
        # strides are in the bundle's configuration, not in the file
        unconstrained=tuple((path, "stride") for path in paths),
    )


_DS = re.compile(r"up_layers\.(\d+)\.head\.weight")


def importers_of_shapes(peer: str, shapes: Shapes) -> tuple[Importer, ...]:
    """The importers of networks whose names depend on their depth."""
    heads = [int(found[1]) for found in map(_DS.fullmatch, shapes) if found]
    if heads:
        return (_segresnet_ds_importer(peer, max(heads) + 1),)
    nested = [name for name in shapes if "1.submodule." in name]
    if not nested:
        return ()
    prefix = "model." if all(name.startswith("model.") for name in shapes) else ""
    depth = max(name.count("1.submodule.") for name in nested)
    return (_unet_importer(peer, depth, residual=any(".unit0." in name for name in nested), prefix=prefix),)


def importers_of_blueprint(peer: str, blueprint: Blueprint) -> tuple[Importer, ...]:
    """The same for a network whose weights are to be written."""
    network = blueprint.network
    if isinstance(network, mn.SegResNetDS):
        return (_segresnet_ds_importer(peer, len(network.decoder.levels)),)
    if isinstance(network, mn.MonaiUNet):
        residual = network.head.unit is not None
        return (_unet_importer(peer, len(network.encoder.levels) - 1, residual=residual, prefix="model."),)
    return ()
