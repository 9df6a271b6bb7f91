"""From a name and options to a blueprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resvox.blueprint import (
    Blueprint,
    DenseRecipe,
    NormChoice,
    activation_of,
    output_activation_of,
    per_axis,
    resolve_dense,
    resolve_resnet,
)
from resvox.blueprint.choices import OUTPUT_ACTIVATIONS
from resvox.blueprint.encoders import cut_encoder, encoder_depth
from resvox.blueprint.networks import Encoder, PreActResNet, ResNet, Segmenter
from resvox.catalog import resnets
from resvox.catalog.arguments import Interface, refuse_unknown, settle_aliases, settle_interface
from resvox.catalog.dense import DENSE_BY_NAME
from resvox.catalog.encoders import ENCODER_OPTIONS, RESNET_OPTIONS, depth_of, encoder_recipe, levels_of, listed
from resvox.catalog.segmenters import SEGMENTER_ALIASES, SEGMENTERS
from resvox.errors import BlueprintError, UnknownModelError, suggest

ALIASES = {**resnets.ALIASES, **SEGMENTER_ALIASES}
DENSE_OPTIONS = (
    "norm",
    "activation",
    "output_activation",
    "depths",
    "widths",
    "stride",
    "shortcut",
    "zero_init_residual",
)


def resolve_name(name: str) -> str:
    """The catalog's spelling of a name or alias; case does not matter.

    Raises:
        UnknownModelError: with the nearest names.
    """
    lowered = str(name).lower()
    lowered = ALIASES.get(lowered, lowered)
    known = [*resnets.BY_NAME, *SEGMENTERS, *DENSE_BY_NAME]
    if lowered in known:
        return lowered
    known += ALIASES
    raise UnknownModelError(
        f"unknown model {name!r}",
        expected="a name that resvox.list_models() shows",
        fix=suggest(lowered, known) or "run `resvox models` to see them all",
    )


def options_of(name: str) -> tuple[str, ...]:
    """The options that a model takes besides dims, channels and classes.

    Raises:
        UnknownModelError: the catalog does not have this name.
    """
    known = resolve_name(name)
    if known in SEGMENTERS:
        return segmenter_options(known)
    return DENSE_OPTIONS if known in DENSE_BY_NAME else RESNET_OPTIONS


def get_blueprint(
    name: str,
    *,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    **options: Any,
) -> Blueprint:
    """The resolved description of a network; takes the arguments of :func:`resvox.create_model`.

    Args:
        name: a name of the catalog, such as ``"resnet50"``, ``"resnet50_v2"`` or ``"unet"``.
        spatial_dims: 2 (default) or 3.
        in_channels: channels of the input, 3 by default.
        num_classes: 1000 by default for a classifier (0: pooled features), 1 for a segmenter, 6 for
            ``"resnet18_3d"`` (whose ``spatial_dims`` are 3 by default).
        input_shape: ``(*spatial, channels)``, as in Keras; sets dims and channels.
        **options: options of the model; unknown ones are rejected by name.

    Raises:
        UnknownModelError: the catalog does not have this name.
        BlueprintError: an option that is unknown, not valid or contradicts another.
    """
    settled = settle_aliases(
        {
            **{k: v for k, v in (("spatial_dims", spatial_dims), ("in_channels", in_channels)) if v is not None},
            **({"num_classes": num_classes} if num_classes is not None else {}),
            **options,
        }
    )
    known = resolve_name(name)
    dense = DENSE_BY_NAME.get(known)
    interface = settle_interface(
        spatial_dims=settled.pop("spatial_dims", None),
        in_channels=settled.pop("in_channels", None),
        num_classes=settled.pop("num_classes", None),
        input_shape=input_shape,
        default_classes=dense.num_classes if dense else 1 if known in SEGMENTERS else 1000,
        default_dims=dense.spatial_dims if dense else 2,
    )
    _split_activation(settled)
    if known in SEGMENTERS:
        return _segmentation(known, interface, settled)
    if dense:
        return _dense(known, interface, settled)
    return _classifier(known, interface, settled)


def _split_activation(options: dict[str, Any]) -> None:
    """``activation="softmax"`` sets the activation of the output, ``activation="silu"`` that of the hidden layers."""
    wanted = options.get("activation")
    if not isinstance(wanted, str) or wanted not in OUTPUT_ACTIVATIONS:
        return
    other = options.get("output_activation")
    if other not in (None, wanted):
        raise BlueprintError(
            f"activation={wanted!r} and output_activation={other!r}",
            expected="one of the two",
            fix="both mean the output's activation; give only output_activation",
        )
    options["output_activation"] = options.pop("activation")


def _classifier(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    only = options.pop("features_only", False)
    if type(only) is not bool:
        raise BlueprintError(f"features_only={only!r}", expected="True or False")
    if only:
        return _features(name, interface, options)
    if options.get("out_indices", 0) is None:
        del options["out_indices"]
    if "out_indices" in options or "encoder_depth" in options:
        raise BlueprintError(
            f"{'out_indices' if 'out_indices' in options else 'encoder_depth'}= for the classifier {name!r}",
            expected="a network that returns its maps",
            fix="give features_only=True as well",
        )
    refuse_unknown(name, options, (*RESNET_OPTIONS, "features_only"))
    output = output_activation_of(options.pop("output_activation", None))
    recipe = encoder_recipe(name, interface, options)
    network = resolve_resnet(replace(recipe, num_classes=interface.num_classes, output_activation=output))
    return Blueprint(
        name=name,
        task="classification" if interface.num_classes else "features",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        network=network,
    )


def _features(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    """The network without a head, cut at ``encoder_depth``; its output is the list of its maps, or of some of them."""
    refuse_unknown(name, options, (*ENCODER_OPTIONS, "encoder_depth", "features_only", "out_indices"))
    depth, indices = levels_of(options)
    recipe = replace(encoder_recipe(name, interface, options), depth=depth)
    return Blueprint(
        name=name,
        task="features",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=0,
        network=resolve_resnet(recipe),
        out_indices=indices,
    )


def _segmentation(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    refuse_unknown(name, options, segmenter_options(name))
    whole = SEGMENTERS[name].resolve_whole
    if whole is not None:
        return _segmenter(name, interface, whole(interface, options))
    encoder_name = resolve_name(options.pop("encoder_name", "resnet18"))
    if encoder_name not in resnets.BY_NAME:
        raise BlueprintError(f"encoder_name={encoder_name!r}", expected="a residual network of the catalog")
    depth = depth_of(options)
    encoder_options = {key: options[key] for key in ENCODER_OPTIONS if key in options}
    encoder = resolve_resnet(replace(encoder_recipe(encoder_name, interface, encoder_options), depth=depth))
    return _segmenter(name, interface, _around(name, encoder, interface, options))


def segmenter_options(name: str) -> tuple[str, ...]:
    """The options of a segmentation model: its encoder's and its decoder's."""
    if not SEGMENTERS[name].takes_encoder:
        return SEGMENTERS[name].options
    return (*ENCODER_OPTIONS, *SEGMENTERS[name].options, "encoder_name")


def segmenter_on(
    encoder: Blueprint, name: str = "unet", *, input_shape: Sequence[int | None] | None = None, **options: Any
) -> Blueprint:
    """A segmentation model with a given encoder; the head of a classifier is left out.

    Args:
        encoder: of a residual network.
        name: of the segmentation model.
        input_shape: ``(*spatial, channels)``, as the encoder has it.
        **options: those of :func:`get_blueprint` for that name that concern its decoder, and ``encoder_depth``.

    Raises:
        BlueprintError: not a supported encoder, or an option that is unknown or not valid.
    """
    settled = settle_aliases(options)
    known = resolve_name(name)
    network = encoder.network
    if not isinstance(network, ResNet | PreActResNet):
        raise BlueprintError(f"{encoder.name!r} as an encoder", expected="a residual network")
    takers = [each for each, row in SEGMENTERS.items() if row.takes_encoder]
    if known not in takers:
        raise BlueprintError(f"{name!r} around an encoder", expected="one of " + ", ".join(takers))
    refuse_unknown(f"{known} around an encoder", settled, (*SEGMENTERS[known].options, "num_classes"))
    depth = depth_of({"encoder_depth": encoder_depth(network), **settled})
    interface = settle_interface(
        spatial_dims=encoder.spatial_dims,
        in_channels=encoder.in_channels,
        num_classes=settled.pop("num_classes", None),
        input_shape=input_shape,
        default_classes=1,
    )
    return _segmenter(known, interface, _around(known, cut_encoder(network, depth), interface, settled))


def _around(name: str, encoder: Encoder, interface: Interface, options: dict[str, Any]) -> Segmenter:
    resolve = SEGMENTERS[name].resolve
    assert resolve is not None  # of a network that takes an encoder
    return resolve(encoder, interface, options)


def _segmenter(name: str, interface: Interface, network: Segmenter) -> Blueprint:
    return Blueprint(
        name=name,
        task="segmentation",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        network=network,
    )


def _dense(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    refuse_unknown(name, options, DENSE_OPTIONS)
    row, dims = DENSE_BY_NAME[name], interface.spatial_dims
    recipe = DenseRecipe(
        spatial_dims=dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        stride=per_axis("stride", options.get("stride", 2), dims),
        depths=listed(options.get("depths", row.depths)),
        widths=listed(options.get("widths", row.widths)),
        norm=NormChoice.of(options.get("norm", "batch")),
        activation=activation_of(options.get("activation", "relu")),
        shortcut=options.get("shortcut", "projection"),
        zero_init_residual=options.get("zero_init_residual", False),
        output_activation=output_activation_of(options.get("output_activation")),
    )
    return Blueprint(
        name=name,
        task="regression",
        spatial_dims=dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        network=resolve_dense(recipe),
    )
