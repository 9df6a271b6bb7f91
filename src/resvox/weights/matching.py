"""The network that weights belong to, as options with which another network can be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.encoders import encoder_strides
from resvox.blueprint.leaves import Norm
from resvox.blueprint.staged.networks import StagedUNet
from resvox.errors import WeightsError
from resvox.weights.architecture import UnclearError, describe
from resvox.weights.comparison import encoder_of
from resvox.weights.naming import name_source
from resvox.weights.sources import read_source

Options = Mapping[str, Any]

# options of a network that belong to its interface, its head or its decoder, not to its encoder
_NOT_OF_AN_ENCODER = {
    "spatial_dims",
    "in_channels",
    "num_classes",
    "features_only",
    "output_activation",
    "encoder_name",
    "encoder_depth",
    "head_kernel",
    "decoder_filters",
    "decoder_normalization",
    "decoder_interpolation",
    "decoder_block_type",
    "decoder_transpose_kernel",
}

# what the data or the plan of a training decide
_OF_A_RUN = {"num_classes", "deep_supervision", "output_activation"}


@dataclass(frozen=True, kw_only=True)
class NetworkOf:
    """What another network needs to take these weights.

    Attributes:
        encoder: name of the residual network; "" for a segmentation model whose encoder is its own.
        spatial_dims: of the weights.
        norm: "batch", "instance" or "group".
        strides: of stem, pooling and the last three stages, one number per axis.
        options: further options that :func:`resvox.create_model` needs.
        segmenter: name of the segmentation model and its decoder's options, where the weights are those of one.
    """

    encoder: str
    spatial_dims: int
    norm: str
    strides: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)
    segmenter: tuple[str, dict[str, Any]] | None = None


def network_of(source: Any, *, peer: str | None = None) -> NetworkOf:
    """The network that weights belong to.

    Raises:
        WeightsError: a source that cannot be read, or weights that do not belong to a known residual network.
    """
    read = read_source(source)
    named = name_source(read, peer, None)
    try:
        found = describe({name: tuple(value.shape) for name, value in named.tensors.items()})
    except UnclearError as error:
        raise WeightsError(
            f"tensors of no known residual network ({error})", expected="a residual network's", path=read.where
        ) from error
    peer_defaults: Options = named.importer.peer_defaults(found)[0] if named.importer else {}
    settled = {**found.options, **peer_defaults}
    blueprint = named.blueprints[0]
    if isinstance(blueprint.network, StagedUNet):
        return _staged(blueprint, blueprint.network, settled)
    encoder = encoder_of(blueprint.network)
    if encoder is None:
        raise WeightsError("weights without a residual encoder", expected="a residual network's", path=read.where)
    first_block = encoder.stage_list[0].items[0]
    norm = next(each for each in vars(first_block).values() if isinstance(each, Norm))
    options = {name: value for name, value in settled.items() if name not in _NOT_OF_AN_ENCODER}
    plain = (2,) * found.spatial_dims
    # where a stage dilates, its stride is an option of its own
    strides = (plain,) * 5 if "output_stride" in options else tuple(encoder_strides(encoder))
    options.pop("strides", None)
    if options.get("norm") == norm.kind:
        del options["norm"]
    return NetworkOf(
        encoder=settled.get("encoder_name", found.name),
        spatial_dims=found.spatial_dims,
        norm=norm.kind,
        strides=(*strides, *[plain] * (5 - len(strides))),
        options=options,
        segmenter=_segmenter(blueprint, settled) if encoder is not blueprint.network else None,
    )


def _staged(blueprint: Blueprint, network: StagedUNet, settled: Options) -> NetworkOf:
    """A network whose encoder is its own: all of its options belong to it as a whole."""
    norm = next(leaf for _, leaf in network.leaves() if isinstance(leaf, Norm))
    options = {name: value for name, value in settled.items() if name not in _OF_A_RUN and name != "norm"}
    plain = (1,) * blueprint.spatial_dims
    return NetworkOf(
        encoder="",
        spatial_dims=blueprint.spatial_dims,
        norm=norm.kind,
        strides=(*network.encoder.strides[1:], *[plain] * 5)[:5],
        # of None: stages are those of the weights, not those that a patch would have
        segmenter=(blueprint.name, {**options, "patch_size": None, "spacing_mm": None}),
    )


def _segmenter(blueprint: Blueprint, settled: Options) -> tuple[str, dict[str, Any]]:
    wanted = ("encoder_depth", "decoder_filters", "head_kernel", "decoder_block_type", "decoder_transpose_kernel",
              "decoder_interpolation")  # fmt: skip
    return blueprint.name, {name: settled[name] for name in wanted if name in settled}
