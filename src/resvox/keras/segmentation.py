"""Base of the segmentation models in Keras: encoder, decoder, heads. The twin of ``torch/segmentation.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from resvox.blueprint import Blueprint, Node
from resvox.blueprint import networks as net
from resvox.blueprint.encoders import encoder_reduction
from resvox.catalog import get_blueprint
from resvox.catalog.registry import segmenter_on
from resvox.errors import BlueprintError
from resvox.keras.arguments import need_input_shape
from resvox.keras.layers import LayerScope, Tensor, cut_to, layer
from resvox.keras.model import BlueprintModel, expect
from resvox.keras.tensors import copy_encoder


def supervision_head(node: net.SupervisionHead, scope: LayerScope, x: Tensor, image: Tensor) -> Tensor:
    """Logits of a coarser level, enlarged and cropped to the size of the image."""
    x = layer(node.up, scope.at("up"), layer(node.conv, scope.at("conv"), x))
    return cut_to(scope, x, image)


def logits_of(
    node: Any, scope: LayerScope, outputs: Sequence[Tensor], image: Tensor, *, coarsest_may_lack: bool = False
) -> list[Tensor]:
    """Logits of the last output of a decoder by the head, and with deep supervision of the others, finest first.

    Args:
        scope: of the network, in full precision.
        coarsest_may_lack: whether the coarsest outputs may have no head.
    """
    logits = [layer(node.head, scope.at("head"), outputs[-1])]
    if node.supervision is not None:
        levels = zip(node.supervision.children(), reversed(outputs[:-1]), strict=not coarsest_may_lack)
        for (name, head), output in levels:
            assert isinstance(head, net.SupervisionHead)
            logits.append(supervision_head(head, scope.at(f"supervision.{name}"), output, image))
    return logits


def supervised(node: Any, scope: LayerScope, logits: Sequence[Tensor]) -> Any:
    """The output with its activation; with deep supervision the list of outputs, finest first."""
    found = [
        layer(node.activation, scope.at("activation" if number == 0 else f"supervision.{number - 1}.activation"), each)
        for number, each in enumerate(logits)
    ]
    return found[0] if node.supervision is None else found


class SegmentationModel(BlueprintModel):
    """An encoder, a decoder and heads. Abstract: subclasses define the network.

    Output (batch, \\*size, num_classes) in float32, of the image's size; with deep supervision the list of them,
    finest first, in training and after (:meth:`without_supervision` gives the model of the first output).

    Attributes:
        model: its name in the catalog.
        kind: class of the blueprint's network.
    """

    model: ClassVar[str]
    kind: ClassVar[type[Node]]

    def __init__(
        self,
        blueprint: Blueprint | None = None,
        /,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Tensor | None = None,
        encoder: Any = None,
        include_rescaling: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        owner = type(self).__name__
        if blueprint is None:
            if encoder is not None:
                _check_encoder(encoder)
                if input_shape is None and input_tensor is None:
                    input_shape = encoder.input_shape[1:]
                include_rescaling = include_rescaling or encoder.include_rescaling
            shape = need_input_shape(owner, input_shape, input_tensor)
            blueprint = _blueprint(self.model, shape, encoder, options)
            name = name or owner
        elif options or encoder is not None:
            given = [*options, *(["encoder"] if encoder is not None else [])]
            raise BlueprintError(f"a blueprint and arguments {sorted(given)}", expected="one of the two")
        expect(blueprint, (self.kind,), owner)
        super().__init__(
            blueprint,
            spell=self.spell,
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_rescaling=include_rescaling,
            name=name,
            dtype=dtype,
        )
        if encoder is not None:
            copy_encoder(encoder, self)

    @staticmethod
    def spell(node: Any, scope: LayerScope, x: Tensor) -> tuple[Any, Sequence[Tensor]]:
        """The outputs, and the maps of the encoder. Abstract."""
        raise NotImplementedError

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """The outputs.

        Raises:
            ValueError: in training with batch norm, a batch of which a norm would see one value per channel.
        """
        if training is True:
            _check_batch(self, inputs)
        return super().call(inputs, training=training, mask=mask)

    def without_supervision(self) -> keras.Model:
        """A functional model with the final output only; it shares this one's layers and weights."""
        outputs = self.outputs[0]
        return keras.Model(self.inputs, outputs, name=f"{self.name}_final")


def _check_batch(model: Any, inputs: Any) -> None:
    """Refuse a batch of which a batch norm that learns would see one value per channel."""
    network, shape = model.blueprint.network, getattr(inputs, "shape", None)
    if shape is None or any(n is None for n in shape):
        return  # None while a graph is traced
    batch, size = int(shape[0]), tuple(int(n) for n in shape[1:-1])
    reduction = encoder_reduction(network.encoder)
    if batch * math.prod(-(-n // step) for n, step in zip(size, reduction, strict=True)) > 1:
        return  # the deepest map is the smallest
    sizes = {row.name: row.input_shape[2:] for top in model.blueprint.stages(size) for row in top.walk()}
    layers = {each.name: each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)}
    for path, seen in sizes.items():
        norm = layers.get(path.replace(".", "_"))
        # frozen ones use what they have learned, synchronized ones see other processes' values too
        learns = norm is not None and norm.trainable and not norm.synchronized
        if learns and batch * math.prod(seen) == 1:
            raise ValueError(
                f"a batch of shape {tuple(shape)} in training: the batch norm {path} has one value per channel and "
                "needs at least 2; give a larger batch or size, freeze the norm (trainable = False), or build the "
                "model with norm='instance'"
            )


def _check_encoder(encoder: Any) -> None:
    if not isinstance(encoder, BlueprintModel):
        raise BlueprintError(
            f"an encoder that is a {type(encoder).__name__}",
            expected="a residual model of resvox.keras",
            fix="build it with resvox.keras.ResNetBackbone or resvox.keras.ResNet50, or give encoder_name=",
        )


def _blueprint(model: str, shape: Sequence[int | None], encoder: Any, options: dict[str, Any]) -> Blueprint:
    if encoder is None:
        return get_blueprint(model, input_shape=shape, **options)
    if "encoder_name" in options:
        raise BlueprintError(
            f"encoder= and encoder_name={options['encoder_name']!r}", expected="exactly one of the two"
        )
    return segmenter_on(encoder.blueprint, model, input_shape=shape, **options)
