"""SegResNet and SegResNetDS. The twin of ``torch/segresnet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint.monai import networks as mn
from resvox.keras.blocks import stage
from resvox.keras.layers import LayerScope, Tensor, add, cut_to, layer, through
from resvox.keras.model import registered_model
from resvox.keras.segmentation import SegmentationModel, logits_of, supervised


def segresnet_encoder(node: mn.SegResNetEncoder, scope: LayerScope, x: Tensor) -> list[Tensor]:
    """The first convolution and the levels: the maps [P1, ...], fine to coarse."""
    x, maps = through(node, ("conv", "dropout"), scope, x), []
    for name, level in node.levels.children():
        assert isinstance(level, mn.SegResNetLevel)
        inner = scope.at(f"levels.{name}")
        x = stage(level.blocks, inner.at("blocks"), layer(level.down, inner.at("down"), x))
        maps.append(x)
    return maps


def segresnet_decoder(node: mn.SegResNetDecoder, scope: LayerScope, maps: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of all levels, deep to shallow; each enlarges the map below, crops it to its skip and adds that."""
    references = list(maps)
    x, outputs = references.pop(), []
    for name, level in node.levels.children():
        assert isinstance(level, mn.SegResNetUpLevel)
        inner, skip = scope.at(f"levels.{name}"), references.pop()
        x = cut_to(inner, through(level, ("conv", "up"), inner, x), skip)
        x = stage(level.blocks, inner.at("blocks"), add(inner, x, skip))
        outputs.append(x)
    return outputs


def segresnet(node: mn.SegResNet, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, a list if supervised; and the encoder's maps."""
    maps = segresnet_encoder(node.encoder, scope.at("encoder"), x)
    outputs = segresnet_decoder(node.decoder, scope.at("decoder"), maps)
    full = scope.full_precision
    return supervised(node, full, logits_of(node, full, outputs, x, coarsest_may_lack=True)), maps


@registered_model
class SegResNet(SegmentationModel):
    """SegResNet (arXiv:1810.11654, without its variational branch), as in MONAI; any input size from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("segresnet", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: ``num_classes=1``, ``init_filters=8``, ``blocks_down=(1, 2, 2, 4)``, and the others of
            ``create_model("segresnet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32: MONAI's where the strides
    divide the size.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """

    model = "segresnet"
    kind = mn.SegResNet
    spell = staticmethod(segresnet)


@registered_model
class SegResNetDS(SegmentationModel):
    """SegResNet with learned upsampling, and kernels that follow the resolution, as in MONAI.

    Arguments, input, output and errors are those of :class:`SegResNet`; with ``dsdepth`` above 1 the output is a list
    of logits, finest first.
    """

    model = "segresnet_ds"
    kind = mn.SegResNetDS
    spell = staticmethod(segresnet)
