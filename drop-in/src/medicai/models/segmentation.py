"""The segmentation models: resvox's, with medicai's output activations and Keras's numbers in the decoders' norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import resvox.keras
from medicai.models.residual import GATES
from resvox.blueprint.choices import plain
from resvox.catalog import VARIANTS, resolve_name
from resvox.errors import BlueprintError
from resvox.keras import BlueprintModel
from resvox.keras.operations import LinearUpsample

if TYPE_CHECKING:
    import keras

# Keras's defaults: eps 1e-3, and momentum 0.99, which PyTorch counts from the other end
DECODER_NORMS: dict[str, Any] = {
    "batch": ("batch", {"eps": 1e-3, "momentum": 0.01}),
    "instance": ("instance", {"eps": 1e-3}),
    "group": ("group", {"eps": 1e-3}),
}
_GATED = {row.name for row in VARIANTS if row.se_ratio is not None}

Shape = Sequence[int | None]


_DOCSTRING = """{title} on a residual encoder, sigmoid by default; any input size from 1 voxel up.

    Args:
        input_shape: ``(*spatial, channels)``; a size may be ``None``. An ``encoder`` has one already.
        encoder_name: a residual network that :func:`list_models` shows; or:
        encoder: a residual model. Its architecture becomes the encoder's and its weights are copied.
        encoder_depth: how many of the maps P1 to P5 it takes; deeper layers are not built.
        num_classes: channels of the output.
        classifier_activation: ``"sigmoid"``, ``"softmax"`` or ``None`` (logits).
        decoder_normalization: ``"batch"``, ``"instance"``, ``"group"`` or ``False``.
        decoder_use_batchnorm: False leaves the decoder's norms out too.
        head_upsample: by how much the output is larger than the input, a whole number or one per axis.
        name: of the model, ``"{class_name}2D"`` or ``"{class_name}3D"`` by default.
        **options: ``decoder_filters``, ``decoder_block_type``, ``decoder_activation`` and the others of
            ``resvox.keras.{class_name}``; unknown ones are refused by name.

    Raises:
        resvox.errors.BlueprintError: an argument that is unknown, missing or not valid.
        resvox.errors.UnknownModelError: no such encoder.
    """


def _unet(class_name: str, title: str) -> Callable[..., keras.Model]:
    def build(
        *,
        input_shape: Shape | None = None,
        encoder_name: str | None = None,
        encoder: BlueprintModel | None = None,
        encoder_depth: int = 5,
        num_classes: int = 1,
        classifier_activation: str | None = "sigmoid",
        decoder_normalization: Any = "batch",
        decoder_use_batchnorm: bool = True,
        head_upsample: int | Sequence[int] = 1,
        name: str | None = None,
        **options: Any,
    ) -> keras.Model:
        norm = decoder_normalization if decoder_use_batchnorm else False
        return _build(
            class_name,
            input_shape=input_shape,
            encoder_name=encoder_name,
            encoder=encoder,
            classifier_activation=classifier_activation,
            head_upsample=head_upsample,
            name=name,
            encoder_depth=encoder_depth,
            num_classes=num_classes,
            decoder_normalization=DECODER_NORMS.get(norm, norm) if isinstance(norm, str) else norm,
            **options,
        )

    build.__name__ = build.__qualname__ = class_name
    build.__doc__ = _DOCSTRING.format(class_name=class_name, title=title)
    return build


def _build(
    class_name: str,
    *,
    input_shape: Shape | None,
    encoder_name: str | None,
    encoder: BlueprintModel | None,
    classifier_activation: str | None,
    head_upsample: int | Sequence[int],
    name: str | None,
    **options: Any,
) -> keras.Model:
    if (encoder is None) == (encoder_name is None):
        raise BlueprintError(
            f"encoder={encoder!r} and encoder_name={encoder_name!r}",
            expected="exactly one of `encoder` or `encoder_name`",
        )
    shape = encoder.input_shape[1:] if encoder is not None and input_shape is None else input_shape
    if shape is None:
        raise BlueprintError(f"{class_name} without input_shape", expected="input_shape=(*spatial, channels)")
    dims = len(tuple(shape)) - 1
    scale = _scale(head_upsample, dims)
    if encoder_name is not None:
        gates = GATES if resolve_name(encoder_name) in _GATED else {}
        options = {**gates, **options, "encoder_name": encoder_name}
    named = name or f"{class_name}{dims}D"
    model: BlueprintModel = getattr(resvox.keras, class_name)(
        input_shape=shape,
        encoder=encoder,
        classifier_activation=classifier_activation if max(scale) == 1 else None,
        name=named,
        **options,
    )
    return model if max(scale) == 1 else _enlarged(model, scale, classifier_activation, named)


def _scale(wanted: Any, dims: int) -> tuple[int, ...]:
    """A factor per axis.

    Raises:
        resvox.errors.BlueprintError: not whole numbers of at least 1.
    """
    wanted = plain(wanted)
    factors = tuple(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else (wanted,) * dims
    good = len(factors) == dims and all(type(f) in (int, float) and f == int(f) and f >= 1 for f in factors)
    if not good:
        raise BlueprintError(
            f"head_upsample={wanted!r}",
            expected=f"a whole number of at least 1, or {dims} of them",
            fix="resize the output outside the model",
        )
    return tuple(int(f) for f in factors)


def _enlarged(model: keras.Model, scale: tuple[int, ...], activation: str | None, name: str) -> keras.Model:
    import keras  # not at the top: resvox.keras settles the backend first

    image = keras.Input(model.inputs[0].shape[1:], name="image")
    outputs = LinearUpsample(scale=scale, name="head_upsample", dtype="float32")(model(image))
    outputs = keras.layers.Activation(activation or "linear", name="predictions", dtype="float32")(outputs)
    return keras.Model(image, outputs, name=name)


UNet = _unet("UNet", "U-Net")
UNetPlusPlus = _unet("UNetPlusPlus", "UNet++")
AttentionUNet = _unet("AttentionUNet", "Attention U-Net")


def TransUNet(  # noqa: N802 - medicai's name
    *,
    input_shape: Shape | None = None,
    encoder_name: str | None = None,
    encoder: BlueprintModel | None = None,
    encoder_depth: int = 5,
    num_classes: int = 1,
    classifier_activation: str | None = None,
    head_upsample: int | Sequence[int] = 1,
    decoder_activation: Any = "leaky_relu",
    name: str | None = None,
    **options: Any,
) -> keras.Model:
    """TransUNet on a residual encoder, logits by default; any input size from 1 voxel up.

    Its masks attend to what they should, and one class can be learned: the numbers are not medicai's.

    Args:
        input_shape: ``(*spatial, channels)``; a size may be ``None``. An ``encoder`` has one already.
        encoder_name: a residual network that :func:`list_models` shows; or:
        encoder: a residual model. Its architecture becomes the encoder's and its weights are copied.
        encoder_depth: how many of the maps P1 to P5 it takes; deeper layers are not built.
        num_classes: channels of the output.
        classifier_activation: ``None`` (logits), ``"sigmoid"`` or ``"softmax"``.
        head_upsample: by how much the output is larger than the input, a whole number or one per axis.
        decoder_activation: of the convolutions on the way up; ``"leaky_relu"`` has medicai's slope, 0.3.
        name: of the model, ``"TransUNet2D"`` or ``"TransUNet3D"`` by default.
        **options: ``num_vit_layers=12``, ``num_heads=8``, ``num_queries=100``, ``embed_dim=512``,
            ``mlp_dim=1024``, ``dropout_rate=0.1``, ``decoder_filters`` and the others of
            ``resvox.keras.TransUNet``; unknown ones are refused by name.

    Raises:
        resvox.errors.BlueprintError: an argument that is unknown, missing or not valid.
        resvox.errors.UnknownModelError: no such encoder.
    """
    slope = ("leaky_relu", {"negative_slope": 0.3})
    return _build(
        "TransUNet",
        input_shape=input_shape,
        encoder_name=encoder_name,
        encoder=encoder,
        classifier_activation=classifier_activation,
        head_upsample=head_upsample,
        name=name,
        encoder_depth=encoder_depth,
        num_classes=num_classes,
        decoder_activation=slope if decoder_activation == "leaky_relu" else decoder_activation,
        **options,
    )
