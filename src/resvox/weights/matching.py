"""The network that a source's weights belong to, as options that another network can take over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.encoders import encoder_strides
from resvox.errors import WeightsError
from resvox.weights.architecture import UnclearError, describe
from resvox.weights.comparison import encoder_of
from resvox.weights.naming import name_source
from resvox.weights.sources import read_source

Options = Mapping[str, Any]

# of a network's options those that are its interface or its head, and no encoder's
_NOT_AN_ENCODERS = {
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


@dataclass(frozen=True, kw_only=True)
class NetworkOf:
    """What another network needs to take these weights.

    Attributes:
        encoder: name of the residual network.
        spatial_dims: of the weights.
        norm: "batch", "instance" or "group".
        strides: of stem, pooling and the last three stages, one number an axis.
        options: what else :func:`resvox.create_model` must be told.
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
        WeightsError: a source that cannot be read, or the weights of no residual network of ours.
    """
    read = read_source(source)
    named = name_source(read, peer, None)
    try:
        found = describe({name: tuple(value.shape) for name, value in named.tensors.items()})
    except UnclearError as error:
        raise WeightsError(
            f"tensors of no residual network of ours ({error})", expected="a residual network's", path=read.where
        ) from error
    habits: Options = named.importer.habits(found)[0] if named.importer else {}
    told = {**found.options, **habits}
    blueprint = named.blueprints[0]
    encoder = encoder_of(blueprint.network)
    if encoder is None:
        raise WeightsError("weights without a residual encoder", expected="a residual network's", path=read.where)
    norm = encoder.stage_list[0].items[0]
    first = next(each for each in vars(norm).values() if type(each).__name__ == "Norm")
    options = {name: value for name, value in told.items() if name not in _NOT_AN_ENCODERS}
    plain = (2,) * found.spatial_dims
    # where a stage dilates, its stride is an option of its own
    strides = (plain,) * 5 if "output_stride" in options else tuple(encoder_strides(encoder))
    options.pop("strides", None)
    if options.get("norm") == first.kind:
        del options["norm"]
    return NetworkOf(
        encoder=told.get("encoder_name", found.name),
        spatial_dims=found.spatial_dims,
        norm=first.kind,
        strides=(*strides, *[plain] * (5 - len(strides))),
        options=options,
        segmenter=_segmenter(blueprint, told),
    )


def _segmenter(blueprint: Blueprint, told: Options) -> tuple[str, dict[str, Any]] | None:
    if blueprint.task != "segmentation":
        return None
    wanted = ("encoder_depth", "decoder_filters", "head_kernel", "decoder_block_type", "decoder_transpose_kernel",
              "decoder_interpolation")  # fmt: skip
    return blueprint.name, {name: told[name] for name in wanted if name in told}
