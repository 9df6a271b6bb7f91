"""nnU-Net's networks. The twin of ``torch/staged_unet.py``."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.staged import networks as sn
from resvox.keras.blocks import block
from resvox.keras.layers import LayerScope, Tensor, concatenate, cut_to, layer
from resvox.keras.model import registered_model
from resvox.keras.segmentation import SegmentationModel, logits_of, supervised


def staged_blocks(node: Node, scope: LayerScope, x: Tensor) -> Tensor:
    """Residual blocks, or sequences of convolution, norm and activation."""
    for name, item in node.children():
        spell = layer if isinstance(item, Sequence) else block
        x = spell(item, scope.at(name), x)
    return x


def staged_encoder(node: sn.StagedEncoder, scope: LayerScope, x: Tensor) -> list[Tensor]:
    """The maps [P1, ..., P<stages>], fine to coarse."""
    x = layer(node.stem, scope.at("stem"), x)
    maps = []
    for name, stage in node.stages.children():
        x = staged_blocks(stage, scope.at(f"stages.{name}"), x)
        maps.append(x)
    return maps


def staged_level(node: sn.StagedLevel, scope: LayerScope, below: Tensor, skip: Tensor) -> Tensor:
    """One level of the decoder: enlarge, crop to the size of the skip, concatenate, convolve."""
    x = cut_to(scope, layer(node.up, scope.at("up"), below), skip)
    return staged_blocks(node.blocks, scope.at("blocks"), concatenate(scope, x, skip))


def staged_decoder(node: sn.StagedDecoder, scope: LayerScope, maps: Several[Tensor]) -> list[Tensor]:
    """Outputs of all levels, deep to shallow, for maps [P1, ..., P<stages>]; the last has the image's size."""
    skips = list(maps)
    x, outputs = skips.pop(), []
    for name, level in node.levels.children():
        assert isinstance(level, sn.StagedLevel)
        x = staged_level(level, scope.at(f"levels.{name}"), x, skips.pop())
        outputs.append(x)
    return outputs


def staged_unet(node: sn.StagedUNet, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, a list if supervised; and the encoder's maps."""
    maps = staged_encoder(node.encoder, scope.at("encoder"), x)
    outputs = staged_decoder(node.decoder, scope.at("decoder"), maps)
    full = scope.full_precision
    return supervised(node, full, logits_of(node, full, outputs, x)), maps


@registered_model
class ResEncUNet(SegmentationModel):
    """nnU-Net's U-Net with a residual encoder (arXiv:2404.09556); any input size from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("resenc_unet", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: ``num_classes=1``, ``preset="M"``, ``features``, ``depths``, ``deep_supervision=False`` and the
            others of ``create_model("resenc_unet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32, with
    ``deep_supervision=True`` a list of them, finest first.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """

    model = "resenc_unet"
    kind = sn.ResEncUNet
    spell = staticmethod(staged_unet)


@registered_model
class PlainUNet(SegmentationModel):
    """nnU-Net's U-Net of plain convolutions (doi:10.1038/s41592-020-01008-z).

    Arguments, inputs, outputs and errors are those of :class:`ResEncUNet`.
    """

    model = "plain_unet"
    kind = sn.PlainUNet
    spell = staticmethod(staged_unet)


@registered_model
class ResidualUNet(SegmentationModel):
    """nnU-Net's U-Net with residual blocks in its encoder and in its decoder.

    Arguments, inputs, outputs and errors are those of :class:`ResEncUNet`.
    """

    model = "residual_unet"
    kind = sn.ResidualUNet
    spell = staticmethod(staged_unet)
