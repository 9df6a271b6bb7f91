"""From a name to a model, in the framework asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import Blueprint
from resvox.catalog import get_blueprint, resolve_name
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import BlueprintError

FRAMEWORKS = ("torch", "keras")


# of a Keras model itself, beside its network
KERAS_OPTIONS = ("dtype", "input_tensor", "include_rescaling", "pooling")


def create_model(
    model: str | None = None,
    /,
    *,
    name: str | None = None,
    framework: str = "torch",
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    **options: Any,
) -> Any:
    """Build a network of the catalog, with fresh weights.

    Args:
        model: such as ``"resnet50"``, ``"resnet50_v2"`` or ``"unet"``; :func:`resvox.list_models` shows them.
        name: of the Keras model that is built. Without ``model`` it is what ``model`` would be.
        framework: ``"torch"`` (a ``torch.nn.Module``) or ``"keras"`` (a ``keras.Model``).
        spatial_dims: 2 (default) for images, 3 for volumes.
        in_channels: channels of the input, 3 by default.
        num_classes: 1000 by default for a classifier (0: pooled features), 1 for a segmenter.
        input_shape: ``(*spatial, channels)``, as in Keras; sets dims and channels. An explicit number that
            disagrees is an error.
        **options: options of the model, such as ``encoder_name=``, ``encoder_depth=``, ``norm=``, ``strides=``,
            ``output_stride=``, or ``encoder=``, a residual model around which a segmenter is built with a copy of its
            weights. Unknown ones are rejected by name. ``activation=`` names that of the hidden layers, or with
            ``"softmax"`` or ``"sigmoid"`` that of the output; else outputs are logits. With ``framework="keras"``
            also ``dtype=``, ``input_tensor=``, ``include_rescaling=`` and ``pooling=``, as of
            :func:`resvox.keras.build`.

    Raises:
        UnknownModelError: the catalog does not have this name.
        BlueprintError: an option that is unknown, not valid or contradicts another.

    Example:
        >>> import resvox
        >>> model = resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1)
    """
    check_framework(framework)
    model, own = _settle_names(model, name, framework, options)
    interface = {"spatial_dims": spatial_dims, "in_channels": in_channels, "num_classes": num_classes}
    if options.get("encoder") is not None:
        return _around(model, framework, input_shape, {**interface, **options, **own})
    options.pop("encoder", None)
    if framework == "torch":
        return build(get_blueprint(model, input_shape=input_shape, **interface, **options))
    tensor = own.get("input_tensor")
    shape = tensor.shape[1:] if input_shape is None and tensor is not None else input_shape
    from resvox.keras import build as build_keras

    return build_keras(get_blueprint(model, input_shape=shape, **interface, **options), input_shape=shape, **own)


def _settle_names(
    model: str | None, name: str | None, framework: str, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The network's name, and what a Keras model itself is given, which is taken from the options.

    Raises:
        BlueprintError: no name of a network, or one for a Keras model with another framework.
    """
    if model is None:
        model, name = name, None
    if model is None:
        raise BlueprintError("create_model without a name", expected="a name that resvox.list_models() shows")
    if framework == "keras":
        given = {"name": name, **{key: options.pop(key) for key in KERAS_OPTIONS if key in options}}
        return model, {key: value for key, value in given.items() if value is not None}
    if name is not None:
        raise BlueprintError(
            f"name={name!r} with framework='torch'", expected="a name for a Keras model", fix="framework='keras'"
        )
    if options.get("dtype") is not None:
        raise BlueprintError(
            f"dtype={options['dtype']} with framework='torch'",
            expected="a dtype policy for a Keras model",
            fix="create_model(...).to(torch.bfloat16)",
        )
    options.pop("dtype", None)
    return model, {}


def _around(name: str, framework: str, input_shape: Sequence[int | None] | None, arguments: dict[str, Any]) -> Any:
    """A segmentation model around an existing encoder; arguments that the encoder defines may be repeated."""
    given = {key: value for key, value in arguments.items() if value is not None}
    encoder = given.pop("encoder")
    blueprint = getattr(encoder, "blueprint", None)
    for key in ("spatial_dims", "in_channels"):
        value, known = given.pop(key, None), getattr(blueprint, key, None)
        if value is not None and known is not None and value != known:
            raise BlueprintError(f"{key}={value} and an encoder with {key}={known}", expected="two that agree")
    known_name = resolve_name(name)
    takers = [each for each, row in SEGMENTERS.items() if row.takes_encoder]
    if known_name not in takers:
        raise BlueprintError(f"encoder= for {name!r}", expected="a segmentation model: " + ", ".join(takers))
    class_name = SEGMENTERS[known_name].class_name
    if framework == "keras":
        import resvox.keras as builders

        return getattr(builders, class_name)(encoder=encoder, input_shape=input_shape, **given)
    import resvox.torch as torch_builders

    return getattr(torch_builders, class_name)(encoder=encoder, **given)


def build(blueprint: Blueprint, *, framework: str = "torch", input_shape: Sequence[int | None] | None = None) -> Any:
    """The model of a blueprint. ``input_shape`` settles the sizes of a Keras model, which are open without it."""
    check_framework(framework)
    if framework == "keras":
        from resvox.keras import build as build_keras

        return build_keras(blueprint, input_shape=input_shape)
    from resvox.torch import build as build_torch

    return build_torch(blueprint)


def check_framework(framework: str) -> None:
    """Raises BlueprintError for a framework that is neither torch nor keras."""
    if framework not in FRAMEWORKS:
        raise BlueprintError(f"framework={framework!r}", expected="'torch' or 'keras'")
