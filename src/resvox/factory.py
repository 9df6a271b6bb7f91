"""From a name to a model, in the framework asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import Blueprint
from resvox.catalog import get_blueprint, resolve_name
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import BlueprintError

FRAMEWORKS = ("torch", "keras")


def create_model(
    name: str,
    *,
    framework: str = "torch",
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    **options: Any,
) -> Any:
    """Build a network of the catalog, with fresh weights.

    Args:
        name: such as ``"resnet50"``, ``"resnet50_v2"`` or ``"unet"``; :func:`resvox.list_models` shows them.
        framework: ``"torch"`` (a ``torch.nn.Module``) or ``"keras"`` (a ``keras.Model``).
        spatial_dims: 2 (default) for images, 3 for volumes.
        in_channels: channels of the input, 3 by default.
        num_classes: 1000 by default for a classifier (0: pooled features), 1 for a segmenter.
        input_shape: ``(*spatial, channels)``, as in Keras; sets dims and channels. An explicit number that
            disagrees is an error.
        **options: options of the model, such as ``encoder_name=``, ``encoder_depth=``, ``norm=``, ``strides=``,
            ``output_stride=``, or ``encoder=``, a residual model around which a segmenter is built with a copy of its
            weights. Unknown ones are rejected by name. ``activation=`` names that of the hidden layers,
            or with ``"softmax"`` or ``"sigmoid"`` that of the output; else outputs are logits.

    Raises:
        UnknownModelError: the catalog does not have this name.
        BlueprintError: an option that is unknown, not valid or contradicts another.

    Example:
        >>> import resvox
        >>> model = resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1)
    """
    check_framework(framework)
    interface = {"spatial_dims": spatial_dims, "in_channels": in_channels, "num_classes": num_classes}
    if options.get("encoder") is not None:
        return _around(name, framework, input_shape, {**interface, **options})
    options.pop("encoder", None)
    blueprint = get_blueprint(name, input_shape=input_shape, **interface, **options)
    return build(blueprint, framework=framework, input_shape=input_shape)


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
    if known_name not in SEGMENTERS:
        raise BlueprintError(f"encoder= for {name!r}", expected="a segmentation model: " + ", ".join(SEGMENTERS))
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
