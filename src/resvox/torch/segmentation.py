"""What every segmentation model is in PyTorch: an encoder, a decoder, heads. The twin of ``keras/segmentation.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.blueprint.blueprint import encoder_blueprint
from resvox.blueprint.encoders import encoder_reduction
from resvox.blueprint.node import Node
from resvox.catalog.registry import segmenter_on
from resvox.errors import BlueprintError
from resvox.torch.batch_check import is_traced, norm_of_one_value
from resvox.torch.initialize import Unfilled, materialize
from resvox.torch.layers import cut_to, layer
from resvox.torch.resnet import as_blueprint, backbone, checkpoint_stages, expect

torch.fx.wrap("cut_to")


class SupervisionHead(nn.Module):
    """Logits of a coarser level, enlarged and cut to the size of the image."""

    def __init__(self, node: net.SupervisionHead, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.up = layer(node.up, spatial_dims)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return cut_to(self.up(self.conv(x)), image)


class SegmentationModel(nn.Module):
    """An encoder under ``encoder``, then what the heir adds. Abstract: heirs build a decoder and say the forward.

    Evaluated, scripted or exported, a model gives logits (batch, num_classes, \\*size) of the image's size. In
    training with deep supervision it gives the list of them, finest first, each of the image's size.
    """

    __constants__ = ("supervised",)

    def __init__(self, blueprint: Blueprint, spell: Mapping[str, Any], encoder: nn.Module | None) -> None:
        super().__init__()
        node: Any = blueprint.network
        with Unfilled():
            self.encoder = backbone(encoder_blueprint(blueprint))
            self.decoder = spell["decoder"](node.decoder, blueprint.spatial_dims)
            self.head = layer(node.head, blueprint.spatial_dims)
            heads = node.supervision.items if node.supervision is not None else ()
            self.supervision = nn.ModuleList(spell["supervision"](each, blueprint.spatial_dims) for each in heads)
            self.activation = layer(node.activation, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.supervised = node.supervision is not None
        self.reduction = list(encoder_reduction(node.encoder))
        materialize(self, node)
        if encoder is not None:
            copy_encoder(encoder, self)

    @torch.jit.unused
    def _check_batch(self, x: Tensor) -> None:
        """In training, refuse a batch of which a batch norm would see one value per channel."""
        if is_traced(x):
            return
        norm = norm_of_one_value(self, self.blueprint, x.shape, self.reduction)
        if norm is not None:
            raise ValueError(
                f"a batch of shape {list(x.shape)} in training: the batch norm {norm} has one value per channel and "
                "needs at least 2; give a larger batch or size, freeze the norm with .eval(), or build the model with "
                "norm='instance'"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or in training with deep supervision the list of them."""
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript leaves out what stands under this alone)
            if self.training:
                self._check_batch(x)
        ways = self.ways(x)
        logits = self.final(ways[-1], x)
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript leaves out what stands under this alone)
            if self.supervised and self.training:
                return self._supervise(logits, ways, x)  # type: ignore[return-value]
        return self.activation(logits)

    def ways(self, x: Tensor) -> list[Tensor]:
        """An image to what the decoder gives at every level that has a head, deep to shallow. Heirs say how."""
        raise NotImplementedError

    def final(self, way: Tensor, image: Tensor) -> Tensor:
        """Logits of the image's size from the last of the ways."""
        return cut_to(self.head(way), image)

    @torch.jit.unused
    def coarser(self, head: nn.Module, way: Tensor, image: Tensor) -> Tensor:
        """Logits of the image's size from an earlier one, by its own head."""
        logits: Tensor = head(way, image)
        return logits

    @torch.jit.unused
    def _supervise(self, logits: Tensor, ways: list[Tensor], image: Tensor) -> list[Tensor]:
        """The logits of every level, finest first."""
        pairs = zip(self.supervision, reversed(ways[:-1]), strict=True)
        return [self.activation(each) for each in (logits, *(self.coarser(head, way, image) for head, way in pairs))]

    def forward_pyramid(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps [P1, ..., P<depth>], fine to coarse."""
        return self.encoder(x)

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep a block's input alone and compute the rest again."""
        checkpoint_stages(self, enable)


def segmenter_blueprint(
    model: Blueprint | str, arguments: dict[str, Any], encoder: nn.Module | None, kind: type[Node], owner: str
) -> Blueprint:
    """What a segmentation model's class is given, settled: a blueprint, or a name and arguments, or an encoder.

    Raises:
        BlueprintError: an encoder that is none of ours or given twice, or another kind of network.
    """
    if encoder is None:
        blueprint = as_blueprint(model, arguments)
    else:
        given = getattr(encoder, "blueprint", None)
        if not isinstance(given, Blueprint) or isinstance(model, Blueprint):
            raise BlueprintError(
                f"an encoder that is a {type(encoder).__name__}" if given is None else "a blueprint and an encoder",
                expected="a residual network of resvox.torch, and decoder arguments beside it",
                fix="build it with resvox.torch.ResNetBackbone, or give encoder_name=",
            )
        if "encoder_name" in arguments:
            raise BlueprintError(
                f"encoder= and encoder_name={arguments['encoder_name']!r}", expected="exactly one of the two"
            )
        blueprint = segmenter_on(given, model, **arguments)
    expect(blueprint, kind, owner, "resvox.create_model")
    return blueprint


def copy_encoder(encoder: nn.Module, model: SegmentationModel) -> None:
    """The values of an encoder into the model that was built around its blueprint; its head is left out."""
    wanted = model.encoder.state_dict()
    given = encoder.state_dict()
    model.encoder.load_state_dict({name: given[name] for name in wanted}, strict=True)
