"""MONAI's UNet. The twin of ``torch/monai_unet.py``."""

from __future__ import annotations

from typing import Any

from resvox.blueprint.monai import networks as mn
from resvox.keras.layers import LayerScope, Tensor, add, concatenate, cut_to, layer, through
from resvox.keras.model import registered_model
from resvox.keras.segmentation import SegmentationModel, supervised


def conv_unit(node: mn.ConvUnit, scope: LayerScope, x: Tensor) -> Tensor:
    """A convolution, or a transposed one, then norm, dropout and activation."""
    return through(node, ("conv", "norm", "dropout", "act"), scope, x)


def residual_unit(node: mn.ResidualUnit, scope: LayerScope, x: Tensor) -> Tensor:
    """Convolutions with norm and activation, and a shortcut; the sum is not activated."""
    y = x
    for name, unit in node.convs.children():
        assert isinstance(unit, mn.ConvUnit)
        y = conv_unit(unit, scope.at(f"convs.{name}"), y)
    return add(scope, y, layer(node.shortcut, scope.at("shortcut"), x)) if node.adds else y


def up_level(node: mn.MonaiUpLevel, scope: LayerScope, joined: Tensor, reference: Tensor) -> Tensor:
    """Enlarge the skip and the map below it, crop to the size of the level above, then the residual unit."""
    x = cut_to(scope, conv_unit(node.up, scope.at("up"), joined), reference)
    return x if node.unit is None else residual_unit(node.unit, scope.at("unit"), x)


def monai_unet(node: mn.MonaiUNet, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size; and the encoder's maps."""
    image, maps = x, []
    for name, unit in node.encoder.levels.children():
        assert isinstance(unit, mn.ResidualUnit)
        x = residual_unit(unit, scope.at(f"encoder.levels.{name}"), x)
        maps.append(x)
    skips = maps[:-1]
    for name, level in node.decoder.levels.children():
        assert isinstance(level, mn.MonaiUpLevel)
        inner = scope.at(f"decoder.levels.{name}")
        joined = concatenate(inner, skips.pop(), x)
        x = up_level(level, inner, joined, skips[-1])
    full = scope.full_precision
    joined = concatenate(scope.at("head"), skips.pop(), x)
    return supervised(node, full, [up_level(node.head, full.at("head"), joined, image)]), maps


@registered_model
class MonaiUNet(SegmentationModel):
    """MONAI's UNet: residual units whose strides begin at the image; any input size from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("monai_unet", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: ``num_classes=1``, ``channels=(16, 32, 64, 128, 256)``, ``strides=(2, 2, 2, 2)``,
            ``num_res_units=2``, and the others of ``create_model("monai_unet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32: MONAI's where the strides
    divide the size.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """

    model = "monai_unet"
    kind = mn.MonaiUNet
    spell = staticmethod(monai_unet)
