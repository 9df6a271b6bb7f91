"""Base of the segmentation models in PyTorch: encoder, decoder, heads. The twin of ``keras/segmentation.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Logits of a coarser level, enlarged and cropped to the size of the image."""

    def __init__(self, node: net.SupervisionHead, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.up = layer(node.up, spatial_dims)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return cut_to(self.up(self.conv(x)), image)


class LevelDecoder(nn.Module):
    """Levels of a decoder, deep to shallow, each from the level below and the encoder's map of its own size."""

    def __init__(self, levels: Iterable[nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Outputs of all levels for maps [P1, ..., P<levels + 1>]; the last one has the size of the first map."""
        x = maps[-1]
        outputs: list[Tensor] = []
        for number, level in enumerate(self.levels):
            x = level(x, maps[len(maps) - 2 - number])
            outputs.append(x)
        return outputs


class SegmentationModel(nn.Module):
    """An encoder under ``encoder`` and a decoder. Abstract: subclasses build the decoder and define forward.

    In eval mode, scripted or exported, a model gives logits (batch, num_classes, \\*size) of the image's size. In
    training with deep supervision it gives the list of them, finest first, each of the image's size.
    """

    __constants__ = ("supervised",)

    def __init__(self, blueprint: Blueprint, spell: Mapping[str, Any], encoder: nn.Module | None) -> None:
        super().__init__()
        node: Any = blueprint.network
        with Unfilled():
            if "encoder" in spell:  # of a network that takes no other
                self.encoder = spell["encoder"](node.encoder, blueprint.spatial_dims)
            else:
                self.encoder = backbone(encoder_blueprint(blueprint))
            self.decoder = spell["decoder"](node.decoder, blueprint.spatial_dims)
            self.head = spell.get("head", layer)(node.head, blueprint.spatial_dims)
            heads = node.supervision.items if node.supervision is not None else ()
            self.supervision = nn.ModuleList(spell["supervision"](each, blueprint.spatial_dims) for each in heads)
            self.activation = layer(node.activation, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.supervised = node.supervision is not None
        self.level_sizes = False
        self.reduction = list(encoder_reduction(node.encoder))
        materialize(self, node)
        if encoder is not None:
            copy_encoder(encoder, self)

    @torch.jit.unused
    def _check_batch(self, x: Tensor) -> None:
        """In training, reject a batch with which a batch norm would get one value per channel."""
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
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript skips the body of this condition)
            if self.training:
                self._check_batch(x)
        outputs = self.decoder_outputs(x)
        logits = self.main_logits(outputs[-1], x)
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript skips the body of this condition)
            if self.supervised and self.training:
                return self._supervise(logits, outputs, x)  # type: ignore[return-value]
        return self.activation(logits)

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        """Outputs of the decoder for an image at every level with a head, deep to shallow. Abstract."""
        raise NotImplementedError

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        """Logits of the image's size from the last output of the decoder."""
        return cut_to(self.head(output), image)

    @torch.jit.unused
    def auxiliary_logits(self, head: nn.Module, output: Tensor, image: Tensor) -> Tensor:
        """Auxiliary logits of the image's size from an earlier output of the decoder, by its own head."""
        if self.level_sizes and isinstance(head, SupervisionHead):
            coarse: Tensor = head.conv(output)
            return coarse
        logits: Tensor = head(output, image)
        return logits

    @torch.jit.unused
    def keep_level_sizes(self, enable: bool = True) -> None:
        """Leave the auxiliary logits of training at the size of their level, for labels that are brought there.

        As nnU-Net trains; it saves enlarging them and their loss at the size of the image.
        """
        self.level_sizes = enable

    @torch.jit.unused
    def _supervise(self, logits: Tensor, outputs: list[Tensor], image: Tensor) -> list[Tensor]:
        """The logits of every level, finest first."""
        pairs = zip(self.supervision, reversed(outputs[:-1]), strict=False)  # the coarsest may have no head
        return [
            self.activation(each)
            for each in (logits, *(self.auxiliary_logits(head, output, image) for head, output in pairs))
        ]

    def forward_pyramid(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps [P1, ..., P<depth>], fine to coarse."""
        return self.encoder(x)

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: store only the input of each block and recompute the rest."""
        checkpoint_stages(self, enable)


def segmenter_blueprint(
    model: Blueprint | str, arguments: dict[str, Any], encoder: nn.Module | None, kind: type[Node], owner: str
) -> Blueprint:
    """The blueprint for a segmentation model's class: given, from a name and arguments, or around an encoder.

    Raises:
        BlueprintError: an encoder that is not a network of this package or is given twice, or another kind of network.
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
    """Copy the weights of an encoder into the model that was built around its blueprint; its head is ignored."""
    wanted = model.encoder.state_dict()
    given = encoder.state_dict()
    model.encoder.load_state_dict({name: given[name] for name in wanted}, strict=True)
