"""The options of MONAI's segmentation networks, and how they become networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resvox.blueprint import (
    MonaiUNetRecipe,
    NormChoice,
    SegResNetRecipe,
    activation_of,
    output_activation_of,
    per_axis,
    resolve_monai_unet,
    resolve_segresnet,
    resolve_segresnet_ds,
)
from resvox.blueprint.leaves import Activation
from resvox.blueprint.monai.networks import PReLU
from resvox.blueprint.networks import Segmenter
from resvox.catalog.arguments import Interface
from resvox.catalog.encoders import listed
from resvox.errors import BlueprintError

_SHARED = ("norm", "activation", "output_activation")
_SEGRESNET = ("init_filters", "blocks_down", "blocks_up")
SEGRESNET_OPTIONS = (*_SHARED, *_SEGRESNET, "dropout", "upsample_mode")
SEGRESNET_DS_OPTIONS = (*_SHARED, *_SEGRESNET, "resolution", "dsdepth", "deep_supervision")
MONAI_UNET_OPTIONS = (
    *_SHARED,
    "channels",
    "strides",
    "num_res_units",
    "kernel_size",
    "up_kernel_size",
    "conv_bias",
    "dropout",
)
DEFAULT_CHANNELS = (16, 32, 64, 128, 256)


def segresnet(interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    """SegResNet with MONAI's defaults."""
    norm = options.get("norm", ("group", {"num_groups": 8}))
    recipe = _segresnet(interface, options, norm, options.get("init_filters", 8))
    return resolve_segresnet(recipe)


def segresnet_ds(interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    """SegResNetDS with MONAI's defaults; ``deep_supervision`` asks for logits of every level of the decoder."""
    deep = options.get("deep_supervision", False)
    if type(deep) is not bool:
        raise BlueprintError(f"deep_supervision={deep!r}", expected="True or False")
    recipe = _segresnet(interface, options, options.get("norm", "batch"), options.get("init_filters", 32))
    depth = len(recipe.blocks_down) - 1 if deep else 1
    return resolve_segresnet_ds(_segresnet(interface, {"dsdepth": depth, **options}, recipe.norm, recipe.init_filters))


def _segresnet(interface: Interface, options: Mapping[str, Any], norm: Any, filters: Any) -> SegResNetRecipe:
    further = {name: options[name] for name in ("dropout", "upsample_mode", "dsdepth") if name in options}
    resolution = options.get("resolution")
    if isinstance(resolution, tuple | list) and all(type(each) in (int, float) for each in resolution):
        resolution = tuple(float(each) for each in resolution)
    return SegResNetRecipe(
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        init_filters=filters,
        norm=NormChoice.of(norm),
        blocks_down=listed(options.get("blocks_down", (1, 2, 2, 4))),
        blocks_up=listed(options.get("blocks_up")),
        activation=activation_of(options.get("activation", "relu")),
        resolution=resolution,
        output_activation=output_activation_of(options.get("output_activation")),
        **further,
    )


def monai_unet(interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    """MONAI's UNet with its defaults for norm and activation; five levels that halve the size, two units each."""
    dims, norm = interface.spatial_dims, options.get("norm", ("instance", {"affine": False}))
    channels = listed(options.get("channels", DEFAULT_CHANNELS))
    strides = options.get("strides", (2,) * (len(channels) - 1) if isinstance(channels, tuple) else ())
    if not isinstance(strides, tuple | list):
        raise BlueprintError(f"strides={strides!r}", expected="one per level but the bottom, each one or one per axis")
    recipe = MonaiUNetRecipe(
        spatial_dims=dims,
        in_channels=interface.in_channels,
        num_classes=interface.num_classes,
        kernel_size=per_axis("kernel_size", options.get("kernel_size", 3), dims),
        up_kernel_size=per_axis("up_kernel_size", options.get("up_kernel_size", 3), dims),
        strides=tuple(per_axis("strides", each, dims) for each in strides),
        channels=channels,
        num_res_units=options.get("num_res_units", 2),
        norm=None if norm is None or norm is False else NormChoice.of(norm),
        activation=unit_activation_of(options.get("activation", "prelu")),
        dropout=options.get("dropout", 0.0),
        bias=options.get("conv_bias", True),
        output_activation=output_activation_of(options.get("output_activation")),
    )
    return resolve_monai_unet(recipe)


def unit_activation_of(value: object) -> Activation | PReLU:
    """``"prelu"`` (one learned slope per place) or an activation of hidden layers."""
    if isinstance(value, str) and value.lower() == "prelu":
        return PReLU()
    return activation_of(value)
