"""The residual networks. The twin of ``torch/resnet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.errors import BlueprintError
from resvox.keras.arguments import backbone_blueprint, check_pooling, need_input_shape
from resvox.keras.blocks import stage
from resvox.keras.layers import LayerScope, Tensor, global_max_pool, layer, through
from resvox.keras.model import BlueprintModel, expect, registered_model


def resnet_pyramid(node: net.ResNet, scope: LayerScope, x: Tensor) -> list[Tensor]:
    """Feature maps [P1, ..., P5] of a post-activation net, fine to coarse, each (batch, \\*size, channels)."""
    x = through(node, ("conv1", "bn1", "act1"), scope, x)
    maps = [x]
    x = layer(node.maxpool, scope.at("maxpool"), x)
    for number, blocks in enumerate(node.stage_list, start=1):
        x = stage(blocks, scope.at(f"layer{number}"), x)
        maps.append(x)
    return maps


def preact_pyramid(node: net.PreActResNet, scope: LayerScope, x: Tensor) -> list[Tensor]:
    """Feature maps [P1, ..., P5] of a pre-activation net: the raw stem and the raw residual sums."""
    x = preact_stem(node.stem, scope.at("stem"), x)
    maps = [x]
    x = layer(node.maxpool, scope.at("maxpool"), x)
    for number, blocks in enumerate(node.stage_list):
        x = stage(blocks, scope.at(f"stages.{number}.blocks"), x)
        maps.append(x)
    return maps


def preact_stem(node: net.PreActStem, scope: LayerScope, x: Tensor) -> Tensor:
    """One convolution, or three with norm and activation between them."""
    if not node.deep:
        return layer(node.conv, scope.at("conv"), x)
    x = through(node, ("conv1", "norm1", "act1"), scope, x)
    x = through(node, ("conv2", "norm2", "act2"), scope, x)
    return layer(node.conv3, scope.at("conv3"), x)


def pyramid(node: net.Encoder, scope: LayerScope, x: Tensor) -> list[Tensor]:
    """Feature maps [P1, ..., P<depth>] of an encoder."""
    return resnet_pyramid(node, scope, x) if isinstance(node, net.ResNet) else preact_pyramid(node, scope, x)


def backbone(
    node: net.Encoder, scope: LayerScope, x: Tensor, *, indices: Sequence[int] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The last map, or the list of the chosen maps; and all maps."""
    maps = pyramid(node, scope, x)
    return (maps[-1] if indices is None else [maps[index] for index in indices]), maps


def classifier(node: net.Encoder, scope: LayerScope, x: Tensor, *, pooling: str) -> tuple[Tensor, list[Tensor]]:
    """Logits (batch, num_classes), or pooled features where there are no classes; and the maps."""
    maps = pyramid(node, scope, x)
    full = scope.full_precision
    if isinstance(node, net.ResNet):
        x = _pool(node.avgpool, full.at("avgpool"), maps[-1], pooling)
        return through(node, ("fc", "activation"), full, x), maps
    if node.head is None:
        raise BlueprintError("a pre-activation network without a head", expected="a classifier")
    x = through(node, ("norm", "act"), scope, maps[-1])
    x = _pool(node.head.pool, full.at("head.pool"), x, pooling)
    x = layer(node.head.fc, full.at("head.fc"), x)
    return layer(node.activation, full.at("activation"), x), maps


def _pool(node: Any, scope: LayerScope, x: Tensor, pooling: str) -> Tensor:
    return global_max_pool(scope, x) if pooling == "max" else layer(node, scope, x)


@registered_model
class ResNet(BlueprintModel):
    """A classifier: ResNet v1.5, v2, vd, ResNeXt, SE, wide.

    Args:
        blueprint: from :func:`resvox.get_blueprint`.
        input_shape: ``(*spatial, channels)``; sizes may be ``None``, which is the default.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        pooling: ``"avg"``, or for features (``num_classes=0``) ``"max"``.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.

    Input (batch, \\*size, channels); output logits (batch, num_classes) in float32, or pooled features without
    classes.

    Raises:
        BlueprintError: a blueprint of another network, or arguments that contradict it.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        /,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Tensor | None = None,
        include_rescaling: bool = False,
        pooling: str = "avg",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        expect(blueprint, (net.ResNet, net.PreActResNet), "ResNet")
        check_pooling(pooling)
        if pooling == "max" and blueprint.num_classes:
            raise BlueprintError(
                f"pooling='max' with {blueprint.num_classes} classes",
                expected="pooling='avg' before a classifier",
                fix="take the features with num_classes=0",
            )
        super().__init__(
            blueprint,
            spell=partial(classifier, pooling=pooling),
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_rescaling=include_rescaling,
            name=name,
            dtype=dtype,
        )
        self.pooling = pooling

    @property
    def beside_blueprint(self) -> tuple[str, ...]:
        """The steps of every model, and max pooling."""
        return (*super().beside_blueprint, *(("pooling='max'",) if self.pooling == "max" else ()))

    def get_config(self) -> dict[str, Any]:
        """Everything the model is built from, in JSON's types."""
        return {**super().get_config(), "pooling": self.pooling}


@registered_model
class ResNetBackbone(BlueprintModel):
    """A residual encoder without a head.

    Its output is the last feature map, or with ``out_indices`` in its blueprint the list of those maps;
    ``pyramid_outputs`` holds P1 to P5.

    Args:
        blueprint: a network without a head, such as ``get_blueprint("resnet50", features_only=True)``; or None,
            with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **architecture:
            ``num_blocks`` (four numbers) and ``block_type`` (``"basic_block"``, ``"bottleneck_block"``, with
            ``_vd`` behind it for average pooling in the shortcut) are needed;
            ``conv_filters=(64,)``, ``conv_kernel_sizes=(7,)`` (the stem: one convolution, or three),
            ``num_filters=(64, 128, 256, 512)``, ``num_strides=(1, 2, 2, 2)``, ``use_pre_activation=False``,
            ``groups=1``, ``width_per_group=64``, ``se_block=False``, ``se_ratio=16``, ``se_activation="relu"``.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.

    Example:
        >>> resnext = ResNetBackbone(
        ...     input_shape=(96, 96, 96, 4), num_blocks=[3, 4, 23, 3], block_type="bottleneck_block",
        ...     groups=64, width_per_group=4,
        ... )
    """

    def __init__(
        self,
        blueprint: Blueprint | None = None,
        /,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Tensor | None = None,
        include_rescaling: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **architecture: Any,
    ) -> None:
        if blueprint is None:
            shape = need_input_shape("ResNetBackbone", input_shape, input_tensor)
            blueprint = backbone_blueprint(shape, architecture)
        elif architecture:
            raise BlueprintError(f"a blueprint and arguments {sorted(architecture)}", expected="one of the two")
        expect(blueprint, (net.ResNet, net.PreActResNet), "ResNetBackbone")
        super().__init__(
            blueprint,
            spell=partial(backbone, indices=blueprint.out_indices),
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_rescaling=include_rescaling,
            name=name,
            dtype=dtype,
        )
