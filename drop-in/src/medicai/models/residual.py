"""The residual networks: resvox's, with softmax behind the classifier and medicai's gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import resvox.keras
from resvox.catalog import VARIANTS, Variant
from resvox.keras import BlueprintModel

# Where medicai's gate stands and how it rounds; resvox's own default is timm's.
GATES = {"se_placement": "before_norm", "se_rounding": "floor"}

_DOCSTRING = """{class_name} as a functional Keras model, 2D or 3D, softmax by default.

    Args:
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        include_rescaling: divide the image by 255 first.
        include_top: False leaves the classifier out.
        num_classes: outputs of the classifier.
        pooling: without a classifier, ``None``, ``"avg"`` or ``"max"``.
        classifier_activation: ``"softmax"``, ``"sigmoid"`` or ``None`` (logits).
        name: of the model.
        **options: those of ``resvox.keras.{class_name}``; unknown ones are refused by name.

    Raises:
        resvox.errors.BlueprintError: an argument that is unknown, missing or not valid.
    """


def _classifier(row: Variant) -> Callable[..., BlueprintModel]:
    gates = GATES if row.se_ratio is not None else {}

    def build(
        *,
        input_shape: Sequence[int | None],
        include_rescaling: bool = False,
        include_top: bool = True,
        num_classes: int = 1000,
        pooling: str | None = None,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        **options: Any,
    ) -> BlueprintModel:
        return getattr(resvox.keras, row.class_name)(
            input_shape=input_shape,
            include_rescaling=include_rescaling,
            include_top=include_top,
            num_classes=num_classes,
            pooling=pooling,
            classifier_activation=classifier_activation,
            name=name,
            **{**gates, **options},
        )

    build.__name__ = build.__qualname__ = row.class_name
    build.__doc__ = _DOCSTRING.format(class_name=row.class_name)
    return build


CLASSIFIERS: dict[str, Callable[..., BlueprintModel]] = {row.class_name: _classifier(row) for row in VARIANTS}


def ResNetBackbone(*, name: str | None = None, **arguments: Any) -> BlueprintModel:  # noqa: N802 - medicai's name
    """A residual encoder described block by block; ``pyramid_outputs`` holds P1 to P5.

    Args:
        name: of the model, ``"ResNetBackbone"`` by default.
        **arguments: of ``resvox.keras.ResNetBackbone``: ``input_shape``, ``num_blocks`` and ``block_type`` are
            needed; unknown ones are refused by name.

    Raises:
        resvox.errors.BlueprintError: an argument that is unknown, missing or not valid.
    """
    gates = GATES if arguments.get("se_block") else {}
    return resvox.keras.ResNetBackbone(name=name or "ResNetBackbone", **{**gates, **arguments})
