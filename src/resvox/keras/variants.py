"""Classes for all residual networks of the catalog, generated from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from resvox.catalog import get_blueprint
from resvox.catalog.arguments import refuse_unknown
from resvox.catalog.encoders import RESNET_OPTIONS
from resvox.catalog.resnets import VARIANTS, Variant
from resvox.errors import BlueprintError
from resvox.keras.arguments import MODEL_ARGUMENTS, check_pooling, need_input_shape
from resvox.keras.layers import Tensor
from resvox.keras.model import BlueprintModel
from resvox.keras.resnet import ResNet, ResNetBackbone

_KNOWN = (*RESNET_OPTIONS, *MODEL_ARGUMENTS, "num_classes", "classifier_activation", "include_top", "pooling")
_DOCSTRING = """{class_name} ({name}) as a functional Keras model, 2D or 3D.

    Args:
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        num_classes: outputs of the classifier.
        classifier_activation: ``None`` (logits), ``"softmax"`` or ``"sigmoid"``.
        include_top: False removes the classifier.
        pooling: without a classifier, ``None`` for the last feature map, ``"avg"`` or ``"max"`` for its mean or
            maximum over space.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: options of the network: norm, activation, strides, output_stride, drop_path, zero_init_residual,
            stem, se_ratio, groups, width_per_group, shortcut and the others of :func:`resvox.create_model`.

    Returns:
        A ``keras.Model`` with ``blueprint`` and ``pyramid_outputs`` (P1 to P5).

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """


def _variant(row: Variant) -> Callable[..., BlueprintModel]:
    def build(
        *,
        input_shape: Sequence[int | None] | None = None,
        num_classes: int = 1000,
        classifier_activation: str | None = None,
        include_top: bool = True,
        pooling: str | None = None,
        input_tensor: Tensor | None = None,
        include_rescaling: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> BlueprintModel:
        refuse_unknown(row.class_name, options, _KNOWN)
        check_pooling(pooling)
        shape = need_input_shape(row.class_name, input_shape, input_tensor)
        common: dict[str, Any] = {
            "input_shape": shape,
            "input_tensor": input_tensor,
            "include_rescaling": include_rescaling,
            "name": name or row.class_name,
            "dtype": dtype,
        }
        if include_top:
            _refuse_pooling(pooling)
            top = get_blueprint(
                row.name,
                input_shape=shape,
                num_classes=num_classes,
                classifier_activation=classifier_activation,
                **options,
            )
            return ResNet(top, **common)
        if pooling is None:
            return ResNetBackbone(get_blueprint(row.name, input_shape=shape, features_only=True, **options), **common)
        pooled = get_blueprint(row.name, input_shape=shape, num_classes=0, **options)
        return ResNet(pooled, pooling=pooling, **common)

    build.__name__ = build.__qualname__ = row.class_name
    build.__doc__ = _DOCSTRING.format(class_name=row.class_name, name=row.name)
    return build


def _refuse_pooling(pooling: str | None) -> None:
    if pooling is not None:
        raise BlueprintError(
            f"pooling={pooling!r} with a classifier",
            expected="include_top=False beside it",
            fix="leave pooling out: a classifier always uses the mean",
        )


BUILDERS: dict[str, Callable[..., BlueprintModel]] = {row.class_name: _variant(row) for row in VARIANTS}
