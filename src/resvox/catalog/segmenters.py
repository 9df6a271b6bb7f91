"""The segmentation models: one line of data per model, and how its options become a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import (
    NormChoice,
    TransUNetRecipe,
    UNetRecipe,
    activation_of,
    output_activation_of,
    per_axis,
    resolve_attention_unet,
    resolve_trans_unet,
    resolve_unet,
    resolve_unet_plus_plus,
)
from resvox.blueprint.networks import Encoder, Segmenter
from resvox.blueprint.trans_unet import IMAGE_SIZES
from resvox.catalog.arguments import Interface
from resvox.catalog.encoders import listed
from resvox.catalog.monai_networks import (
    MONAI_UNET_OPTIONS,
    SEGRESNET_DS_OPTIONS,
    SEGRESNET_OPTIONS,
    monai_unet,
    segresnet,
    segresnet_ds,
)
from resvox.catalog.staged import PLAIN_OPTIONS, STAGED_OPTIONS, plain_unet, resenc_unet, residual_unet

# encoder, interface and options (all of them known) to the network
Resolve = Callable[[Encoder, Interface, Mapping[str, Any]], Segmenter]
# the same without an encoder
ResolveWhole = Callable[[Interface, Mapping[str, Any]], Segmenter]


@dataclass(frozen=True, kw_only=True)
class SegmenterRow:
    """A row of the table: names, the options that concern its decoder, and how they are resolved.

    ``resolve`` takes an encoder; a network whose encoder is its own has ``resolve_whole`` instead, and all its
    options in ``options``.
    """

    name: str
    class_name: str
    family: str
    options: tuple[str, ...]
    resolve: Resolve | None = None
    resolve_whole: ResolveWhole | None = None

    @property
    def takes_encoder(self) -> bool:
        """Whether it is built around a residual network of the catalog."""
        return self.resolve is not None


UNET_OPTIONS = (
    "output_activation",
    "encoder_depth",
    "decoder_filters",
    "decoder_block_type",
    "decoder_interpolation",
    "decoder_transpose_kernel",
    "decoder_normalization",
    "decoder_activation",
    "head_kernel",
    "deep_supervision",
)


def _recipe(encoder: Encoder, interface: Interface, options: Mapping[str, Any]) -> UNetRecipe:
    norm = options.get("decoder_normalization", options.get("norm", "batch"))
    act = options.get("decoder_activation", options.get("activation", "relu"))
    return UNetRecipe(
        encoder=encoder,
        num_classes=interface.num_classes,
        filters=listed(options.get("decoder_filters", (256, 128, 64, 32, 16))),
        block_type=options.get("decoder_block_type", "upsampling"),
        interpolation=options.get("decoder_interpolation", "nearest"),
        transpose_kernel=options.get("decoder_transpose_kernel", 4),
        norm=None if norm is None or norm is False else NormChoice.of(norm, "decoder_normalization"),
        activation=activation_of(act, "decoder_activation"),
        head_kernel=options.get("head_kernel", 1),
        deep_supervision=options.get("deep_supervision", False),
        output_activation=output_activation_of(options.get("output_activation")),
    )


def _unet(encoder: Encoder, interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    return resolve_unet(_recipe(encoder, interface, options))


def _attention_unet(encoder: Encoder, interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    return resolve_attention_unet(_recipe(encoder, interface, options))


def _unet_plus_plus(encoder: Encoder, interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    order = options.get("decoder_filter_order", "finest_first")
    return resolve_unet_plus_plus(_recipe(encoder, interface, options), order)


# options passed to the recipe unchanged
_TRANSFORMER_OPTIONS = (
    "num_vit_layers",
    "num_heads",
    "num_queries",
    "embed_dim",
    "mlp_dim",
    "dropout_rate",
    "deep_supervision",
)
TRANS_UNET_OPTIONS = (
    "output_activation",
    "encoder_depth",
    "decoder_filters",
    "decoder_interpolation",
    "decoder_normalization",
    "decoder_activation",
    "image_size",
    "patch_size",
    *_TRANSFORMER_OPTIONS,
)


def _trans_unet(encoder: Encoder, interface: Interface, options: Mapping[str, Any]) -> Segmenter:
    dims = interface.spatial_dims
    norm = options.get("decoder_normalization")
    patch = options.get("patch_size")
    recipe = TransUNetRecipe(
        encoder=encoder,
        num_classes=interface.num_classes,
        image_size=_image_size(interface, options.get("image_size")),
        patch_size=None if patch is None else per_axis("patch_size", patch, dims),
        filters=listed(options.get("decoder_filters", (256, 128, 64, 32, 16))),
        interpolation=options.get("decoder_interpolation", "linear"),
        norm=None if norm is None or norm is False else NormChoice.of(norm, "decoder_normalization"),
        activation=activation_of(options.get("decoder_activation", "leaky_relu"), "decoder_activation"),
        output_activation=output_activation_of(options.get("output_activation")),
        **{name: options[name] for name in _TRANSFORMER_OPTIONS if name in options},
    )
    return resolve_trans_unet(recipe)


def _image_size(interface: Interface, given: Any) -> tuple[int, ...]:
    """``image_size`` if given; else that of ``input_shape``, with the default along an axis of any length."""
    dims = interface.spatial_dims
    if given is not None:
        return per_axis("image_size", given, dims)
    return tuple(n or IMAGE_SIZES[dims] for n in interface.size or (None,) * dims)


SEGMENTERS: dict[str, SegmenterRow] = {
    row.name: row
    for row in (
        SegmenterRow(name="unet", class_name="UNet", family="unet", options=UNET_OPTIONS, resolve=_unet),
        SegmenterRow(
            name="unet_plus_plus",
            class_name="UNetPlusPlus",
            family="unet",
            options=(*UNET_OPTIONS, "decoder_filter_order"),
            resolve=_unet_plus_plus,
        ),
        SegmenterRow(
            name="attention_unet",
            class_name="AttentionUNet",
            family="unet",
            options=UNET_OPTIONS,
            resolve=_attention_unet,
        ),
        SegmenterRow(
            name="trans_unet",
            class_name="TransUNet",
            family="unet",
            options=TRANS_UNET_OPTIONS,
            resolve=_trans_unet,
        ),
        SegmenterRow(
            name="resenc_unet",
            class_name="ResEncUNet",
            family="nnunet",
            options=STAGED_OPTIONS,
            resolve_whole=resenc_unet,
        ),
        SegmenterRow(
            name="plain_unet",
            class_name="PlainUNet",
            family="nnunet",
            options=PLAIN_OPTIONS,
            resolve_whole=plain_unet,
        ),
        SegmenterRow(
            name="residual_unet",
            class_name="ResidualUNet",
            family="nnunet",
            options=STAGED_OPTIONS,
            resolve_whole=residual_unet,
        ),
        SegmenterRow(
            name="segresnet",
            class_name="SegResNet",
            family="segresnet",
            options=SEGRESNET_OPTIONS,
            resolve_whole=segresnet,
        ),
        SegmenterRow(
            name="segresnet_ds",
            class_name="SegResNetDS",
            family="segresnet",
            options=SEGRESNET_DS_OPTIONS,
            resolve_whole=segresnet_ds,
        ),
        SegmenterRow(
            name="monai_unet",
            class_name="MonaiUNet",
            family="unet",
            options=MONAI_UNET_OPTIONS,
            resolve_whole=monai_unet,
        ),
    )
}

SEGMENTER_ALIASES: dict[str, str] = {
    "unet++": "unet_plus_plus",
    "unetplusplus": "unet_plus_plus",
    "unetpp": "unet_plus_plus",
    "attentionunet": "attention_unet",
    "attunet": "attention_unet",
    "transunet": "trans_unet",
    "resencunet": "resenc_unet",
    "residualencoderunet": "resenc_unet",
    "plainunet": "plain_unet",
    "plainconvunet": "plain_unet",
    "residualunet": "residual_unet",
    "segresnetds": "segresnet_ds",
    "monaiunet": "monai_unet",
}
