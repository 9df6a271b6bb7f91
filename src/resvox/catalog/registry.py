"""From a name and options to a blueprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resvox.blueprint import (
    Blueprint,
    DenseRecipe,
    NormChoice,
    ResNetRecipe,
    UNetRecipe,
    activation_of,
    output_activation_of,
    per_axis,
    resolve_dense,
    resolve_resnet,
    resolve_unet,
)
from resvox.blueprint.choices import OUTPUT_ACTIVATIONS, suggest
from resvox.blueprint.encoders import cut_encoder, encoder_depth
from resvox.blueprint.networks import Encoder, PreActResNet, ResNet
from resvox.blueprint.recipe import BIAS_PLACES, LEVELS
from resvox.catalog import resnets
from resvox.catalog.arguments import Interface, refuse_unknown, settle_aliases, settle_interface
from resvox.catalog.dense import DENSE_BY_NAME
from resvox.errors import BlueprintError, UnknownModelError

SEGMENTERS = {"unet": "UNet"}
RESNET_OPTIONS = (
    "norm",
    "activation",
    "output_activation",
    "strides",
    "output_stride",
    "drop_path",
    "zero_init_residual",
    "stem",
    "stem_width",
    "stem_kernel",
    "widths",
    "depths",
    "se_ratio",
    "se_placement",
    "se_rounding",
    "groups",
    "width_per_group",
    "shortcut",
    "stride_on",
    "stride_block",
    "conv_bias",
    "pool_padding",
    "dilate_first_block",
)
ENCODER_OPTIONS = tuple(name for name in RESNET_OPTIONS if name != "output_activation")
DECODER_OPTIONS = (
    "output_activation",
    "encoder_depth",
    "decoder_filters",
    "decoder_block_type",
    "decoder_interpolation",
    "decoder_transpose_kernel",
    "decoder_normalization",
    "decoder_activation",
    "head_kernel",
)
UNET_OPTIONS = (*ENCODER_OPTIONS, *DECODER_OPTIONS, "encoder_name")
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
    lowered = resnets.ALIASES.get(lowered, lowered)
    known = [*resnets.BY_NAME, *SEGMENTERS, *DENSE_BY_NAME]
    if lowered in known:
        return lowered
    known += resnets.ALIASES
    raise UnknownModelError(
        f"unknown model {name!r}",
        expected="a name that resvox.list_models() shows",
        fix=suggest(lowered, known) or "run `resvox models` to see them all",
    )


def options_of(name: str) -> tuple[str, ...]:
    """The options that a model takes beside dims, channels and classes.

    Raises:
        UnknownModelError: no such name.
    """
    known = resolve_name(name)
    if known in SEGMENTERS:
        return UNET_OPTIONS
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
        input_shape: ``(*spatial, channels)``, Keras's habit; settles dims and channels.
        **options: options of the model; unknown ones are refused by name.

    Raises:
        UnknownModelError: no such name.
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
        return _unet(known, interface, settled)
    if dense:
        return _dense(known, interface, settled)
    return _classifier(known, interface, settled)


def _split_activation(options: dict[str, Any]) -> None:
    """``activation="softmax"`` asks for the output's, ``activation="silu"`` for that of the hidden layers."""
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
    """The network without a head, cut where ``encoder_depth`` ends; its output is the list of maps."""
    refuse_unknown(name, options, (*ENCODER_OPTIONS, "encoder_depth", "features_only"))
    depth = _depth(options)
    recipe = replace(encoder_recipe(name, interface, options), depth=depth)
    return Blueprint(
        name=name,
        task="features",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=0,
        network=resolve_resnet(recipe),
    )


def _depth(options: dict[str, Any]) -> int:
    depth = options.pop("encoder_depth", LEVELS)
    if type(depth) is not int or not 1 <= depth <= LEVELS:
        raise BlueprintError(f"encoder_depth={depth!r}", expected="a whole number from 1 to 5")
    return depth


def _unet(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    refuse_unknown(name, options, UNET_OPTIONS)
    encoder_name = resolve_name(options.pop("encoder_name", "resnet18"))
    if encoder_name not in resnets.BY_NAME:
        raise BlueprintError(f"encoder_name={encoder_name!r}", expected="a residual network of the catalog")
    depth = _depth(options)
    encoder_options = {key: options[key] for key in ENCODER_OPTIONS if key in options}
    encoder = resolve_resnet(replace(encoder_recipe(encoder_name, interface, encoder_options), depth=depth))
    return _segmenter(name, interface, encoder, options)


def segmenter_on(encoder: Blueprint, name: str = "unet", **options: Any) -> Blueprint:
    """A segmentation model around an encoder that is there already, a classifier's too: its head is left out.

    Args:
        encoder: of a residual network.
        name: of the segmentation model.
        **options: those of :func:`get_blueprint` for that name that concern its decoder, and ``encoder_depth``.

    Raises:
        BlueprintError: an encoder that is none, or an option that is unknown or not valid.
    """
    settled = settle_aliases(options)
    network = encoder.network
    if not isinstance(network, ResNet | PreActResNet):
        raise BlueprintError(f"{encoder.name!r} as an encoder", expected="a residual network")
    refuse_unknown(f"{name} around an encoder", settled, (*DECODER_OPTIONS, "num_classes"))
    depth = _depth({"encoder_depth": encoder_depth(network), **settled})
    interface = settle_interface(
        spatial_dims=encoder.spatial_dims,
        in_channels=encoder.in_channels,
        num_classes=settled.pop("num_classes", None),
        input_shape=None,
        default_classes=1,
    )
    return _segmenter(resolve_name(name), interface, cut_encoder(network, depth), settled)


def _segmenter(name: str, interface: Interface, encoder: Encoder, options: dict[str, Any]) -> Blueprint:
    norm = options.get("decoder_normalization", options.get("norm", "batch"))
    act = options.get("decoder_activation", options.get("activation", "relu"))
    recipe = UNetRecipe(
        encoder=encoder,
        num_classes=interface.num_classes,
        filters=_listed(options.get("decoder_filters", (256, 128, 64, 32, 16))),
        block_type=options.get("decoder_block_type", "upsampling"),
        interpolation=options.get("decoder_interpolation", "nearest"),
        transpose_kernel=options.get("decoder_transpose_kernel", 4),
        norm=None if norm is None or norm is False else NormChoice.of(norm, "decoder_normalization"),
        activation=activation_of(act, "decoder_activation"),
        head_kernel=options.get("head_kernel", 1),
        output_activation=output_activation_of(options.get("output_activation")),
    )
    return Blueprint(
        name=name,
        task="segmentation",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        network=resolve_unet(recipe),
    )


def _dense(name: str, interface: Interface, options: dict[str, Any]) -> Blueprint:
    refuse_unknown(name, options, DENSE_OPTIONS)
    row, dims = DENSE_BY_NAME[name], interface.spatial_dims
    recipe = DenseRecipe(
        spatial_dims=dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        stride=per_axis("stride", options.get("stride", 2), dims),
        depths=_listed(options.get("depths", row.depths)),
        widths=_listed(options.get("widths", row.widths)),
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


def encoder_recipe(name: str, interface: Interface, options: dict[str, Any]) -> ResNetRecipe:
    """The recipe of a residual network: the catalog's row, then the user's options over it."""
    row = resnets.BY_NAME[name]
    taken = dict(options)
    dims = interface.spatial_dims
    settled: dict[str, Any] = {
        "block": row.block,
        "depths": row.depths,
        "stem": row.stem,
        "preactivation": row.preactivation,
        "average_down": row.average_down,
        "groups": row.groups,
        "width_per_group": row.width_per_group,
        "se_ratio": row.se_ratio,
    }
    if "norm" in taken:
        settled["norm"] = NormChoice.of(taken.pop("norm"))
    if "activation" in taken:
        settled["activation"] = activation_of(taken.pop("activation"))
    if "strides" in taken:
        strides = taken.pop("strides")
        if not isinstance(strides, (tuple, list)) or len(strides) != LEVELS:
            raise BlueprintError(
                f"strides={strides!r}",
                expected="five entries (stem, pooling, stages 2 to 4), each a number or one per axis",
            )
        settled["strides"] = tuple(per_axis("strides", stride, dims) for stride in strides)
    if "stem_kernel" in taken:
        settled["stem_kernel"] = _odd_kernel(per_axis("stem_kernel", taken.pop("stem_kernel"), dims))
    for key in ("depths", "widths"):
        if key in taken:
            settled[key] = _listed(taken.pop(key))
    if type(taken.get("conv_bias")) is bool:
        settled["conv_bias"] = BIAS_PLACES if taken.pop("conv_bias") else ()
    elif isinstance(taken.get("conv_bias"), list):
        settled["conv_bias"] = tuple(taken.pop("conv_bias"))
    settled.update(taken)
    return ResNetRecipe(spatial_dims=dims, in_channels=interface.in_channels, **settled)


def _listed(value: Any) -> Any:
    """A list as a tuple; anything else as it is, for the recipe to refuse by name."""
    return tuple(value) if isinstance(value, list) else value


def _odd_kernel(kernel: tuple[int, ...]) -> tuple[int, ...]:
    if any(k % 2 == 0 for k in kernel):
        raise BlueprintError(f"stem_kernel={kernel!r}", expected="odd numbers, so that padding is symmetric")
    return kernel
