"""The U-Net: resvox's, with sigmoid behind it and Keras's numbers in the decoder's norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import resvox.keras
from medicai.models.residual import GATES
from resvox.catalog import VARIANTS, resolve_name
from resvox.keras import BlueprintModel

# Keras's defaults: eps 1e-3, and momentum 0.99, which PyTorch counts from the other end
DECODER_NORMS: dict[str, Any] = {
    "batch": ("batch", {"eps": 1e-3, "momentum": 0.01}),
    "instance": ("instance", {"eps": 1e-3}),
    "group": ("group", {"eps": 1e-3}),
}
_GATED = {row.name for row in VARIANTS if row.se_ratio is not None}


def UNet(  # noqa: N802 - medicai's name
    *,
    input_shape: Sequence[int | None],
    encoder_name: str,
    encoder_depth: int = 5,
    num_classes: int = 1,
    classifier_activation: str | None = "sigmoid",
    decoder_normalization: Any = "batch",
    name: str | None = None,
    **options: Any,
) -> BlueprintModel:
    """U-Net on a residual encoder, sigmoid by default; any input size from 1 voxel up.

    Args:
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        encoder_name: a residual network that :func:`list_models` shows.
        encoder_depth: how many of the maps P1 to P5 it takes; deeper layers are not built.
        num_classes: channels of the output.
        classifier_activation: ``"sigmoid"``, ``"softmax"`` or ``None`` (logits).
        decoder_normalization: ``"batch"``, ``"instance"``, ``"group"`` or ``False``.
        name: of the model, ``"UNet2D"`` or ``"UNet3D"`` by default.
        **options: ``decoder_filters``, ``decoder_block_type``, ``decoder_activation`` and the others of
            ``resvox.keras.UNet``; unknown ones are refused by name.

    Raises:
        resvox.errors.BlueprintError: an argument that is unknown, missing or not valid.
        resvox.errors.UnknownModelError: no such encoder.
    """
    norm = decoder_normalization
    gates = GATES if resolve_name(encoder_name) in _GATED else {}
    return resvox.keras.UNet(
        input_shape=input_shape,
        encoder_name=encoder_name,
        encoder_depth=encoder_depth,
        num_classes=num_classes,
        classifier_activation=classifier_activation,
        decoder_normalization=DECODER_NORMS.get(norm, norm) if isinstance(norm, str) else norm,
        name=name or f"UNet{len(tuple(input_shape)) - 1}D",
        **{**gates, **options},
    )
