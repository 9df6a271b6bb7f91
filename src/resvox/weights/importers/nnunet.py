"""nnU-Net v2: ResidualEncoderUNet, PlainConvUNet and ResidualUNet of dynamic-network-architectures.

A file holds every convolution and norm under two names, and the encoder a second time within the decoder. The second
names are compared with the first and left out.
"""

from __future__ import annotations

import re

from resvox.blueprint import Blueprint
from resvox.blueprint.staged.networks import StagedUNet
from resvox.weights.architecture import Architecture
from resvox.weights.importers.importer import Importer, Options, Peer, Shapes
from resvox.weights.importers.table import Row, Table

_DECODER = re.compile(r"decoder\.transpconvs\.(\d+)\.weight")
_POOLED = re.compile(r"encoder\.stages\.(\d+)\.blocks\.0\.skip\.1\.conv\.weight")
_TWIN_LAYER = re.compile(r"(.*\.)all_modules\.([012])\.(\w+)")
_INNER_ENCODER = "decoder.encoder."
MAX_LEVELS = 32


def nnunet_table(levels: int, pooled: frozenset[int]) -> Table:
    """The names of a network.

    Args:
        levels: of the decoder.
        pooled: the stages of the encoder whose shortcut pools before its convolution.
    """
    block = ("encoder.stages.{s}.{b}.", "encoder.stages.{s}.blocks.{b}.")
    inner = ("decoder.levels.{s}.blocks.{b}.", "decoder.stages.{s}.blocks.{b}.")
    rows = [
        Row("encoder.stem.0", "encoder.stem.convs.0.conv"),
        Row("encoder.stem.1", "encoder.stem.convs.0.norm", "norm"),
        *(
            row
            for s in sorted(pooled)
            for row in _shortcut(f"encoder.stages.{s}.0.", f"encoder.stages.{s}.blocks.0.", 1)
        ),
        *_shortcut("encoder.stages.{s}.0.", "encoder.stages.{s}.blocks.0.", 0),
        *_shortcut("decoder.levels.{s}.blocks.0.", "decoder.stages.{s}.blocks.0.", 0),
    ]
    for ours, theirs in (block, inner):
        rows += [
            Row(ours + "conv{n}", theirs + "conv{n}.conv"),
            Row(ours + "bn{n}", theirs + "conv{n}.norm", "norm"),
        ]
    rows += [
        *_unit("encoder.stages.{s}.{c}.", "encoder.stages.{s}.0.convs.{c}."),
        *_unit("decoder.levels.{s}.blocks.{c}.", "decoder.stages.{s}.convs.{c}."),
        Row("decoder.levels.{s}.up", "decoder.transpconvs.{s}"),
        Row("head", f"decoder.seg_layers.{levels - 1}"),
        *(Row(f"supervision.{n}.conv", f"decoder.seg_layers.{levels - 2 - n}") for n in range(levels - 1)),
    ]
    return Table(tuple(rows))


def _unit(ours: str, theirs: str) -> tuple[Row, Row]:
    return Row(ours + "0", theirs + "conv"), Row(ours + "1", theirs + "norm", "norm")


def _shortcut(ours: str, theirs: str, number: int) -> tuple[Row, Row]:
    """The convolution of a shortcut and its norm; ``number`` is 1 behind a pooling."""
    return (
        Row(f"{ours}downsample.{number}", f"{theirs}skip.{number}.conv"),
        Row(f"{ours}downsample.{number + 1}", f"{theirs}skip.{number}.norm", "norm"),
    )


def first_name(name: str) -> str | None:
    """The name that a second name of the same tensor repeats; None for a first name."""
    outer = "encoder." + name.removeprefix(_INNER_ENCODER) if name.startswith(_INNER_ENCODER) else name
    found = _TWIN_LAYER.fullmatch(outer)
    if found is not None:  # number 1 is a dropout where the norm is number 2
        outer = f"{found[1]}{'conv' if found[2] == '0' else 'norm'}.{found[3]}"
    return None if outer == name else outer


def second_names(name: str) -> tuple[str, ...]:
    """The further names under which nnU-Net's networks hold a tensor."""
    found = [name]
    layer = re.fullmatch(r"(.*\.)(conv|norm)\.(\w+)", name)
    if layer is not None:
        found.append(f"{layer[1]}all_modules.{int(layer[2] == 'norm')}.{layer[3]}")
    found += [_INNER_ENCODER + each.removeprefix("encoder.") for each in found if each.startswith("encoder.")]
    return tuple(found[1:])


def _peer_defaults(found: Architecture) -> tuple[Options, ...]:
    return ({}, {"deep_supervision": True})


def _importer(table: Table) -> Importer:
    return Importer(
        peer="nnunet",
        title="nnU-Net v2",
        table=table,
        peer_defaults=_peer_defaults,
        first_name=first_name,
        second_names=second_names,
    )


def _of_shapes(shapes: Shapes) -> tuple[Importer, ...]:
    levels = [int(found[1]) for found in map(_DECODER.fullmatch, shapes) if found]
    if not levels or max(levels) >= MAX_LEVELS:
        return ()
    pooled = frozenset(int(found[1]) for found in map(_POOLED.fullmatch, shapes) if found)
    return (_importer(nnunet_table(max(levels) + 1, pooled)),)


def _of_blueprint(blueprint: Blueprint) -> tuple[Importer, ...]:
    network = blueprint.network
    if not isinstance(network, StagedUNet):
        return ()
    strides = network.encoder.strides
    pooled = frozenset(stage for stage, stride in enumerate(strides) if max(stride) > 1)
    return (_importer(nnunet_table(len(strides) - 1, pooled)),)


def _objection(blueprint: Blueprint) -> tuple[str, str] | None:
    network = blueprint.network
    if isinstance(network, StagedUNet) and network.supervision is None and len(network.encoder.strides) > 2:
        return (
            "a network without the heads of deep supervision, for nnunet",
            "deep_supervision=True: nnU-Net's networks always have them, and need their weights",
        )
    return None


PEER = Peer(
    importers=(_importer(Table(())),),  # its names depend on the network
    of_shapes=_of_shapes,
    of_blueprint=_of_blueprint,
    objection=_objection,
)
