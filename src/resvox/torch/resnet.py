"""The residual networks. The twin of ``keras/resnet.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.blueprint.choices import plain
from resvox.blueprint.leaves import Linear
from resvox.blueprint.node import Sequence
from resvox.catalog import get_blueprint
from resvox.errors import BlueprintError
from resvox.torch.blocks import Stage, stage
from resvox.torch.features import FeatureInfo
from resvox.torch.initialize import Unfilled, fill_layer, materialize
from resvox.torch.layers import layer


class _Stages(nn.Module):
    """Common base of the residual networks. Abstract: subclasses define the stages and forward."""

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: store only the input of each block and recompute the rest."""
        checkpoint_stages(self, enable)


class _PostActStages(_Stages):
    """Stem and residual layers under torchvision's names. Abstract: subclasses define forward."""

    __constants__: tuple[str, ...] = ("depth",)

    def __init__(self, node: net.ResNet, spatial_dims: int) -> None:
        super().__init__()
        self.depth = 1 + len(node.stage_list)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.maxpool = layer(node.maxpool, spatial_dims)
        self.layer1 = stage(node.layer1, spatial_dims)
        self.layer2 = stage(node.layer2, spatial_dims)
        self.layer3 = stage(node.layer3, spatial_dims)
        self.layer4 = stage(node.layer4, spatial_dims)

    def forward_pyramid(self, x: Tensor) -> list[Tensor]:
        """Feature maps [P1, ..., P5], fine to coarse, each (batch, channels, \\*size)."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps = [x]
        if self.depth >= 2:
            x = self.layer1(self.maxpool(x))
            maps.append(x)
        if self.depth >= 3:
            x = self.layer2(x)
            maps.append(x)
        if self.depth >= 4:
            x = self.layer3(x)
            maps.append(x)
        if self.depth >= 5:
            x = self.layer4(x)
            maps.append(x)
        return maps


class _PreActStages(_Stages):
    """Stem and residual stages under timm's names. Abstract: subclasses define forward."""

    def __init__(self, node: net.PreActResNet, spatial_dims: int) -> None:
        super().__init__()
        self.stem = PreActStem(node.stem, spatial_dims)
        self.maxpool = layer(node.maxpool, spatial_dims)
        self.stages = nn.Sequential(*(PreActStage(blocks, spatial_dims) for blocks in node.stage_list))

    def forward_pyramid(self, x: Tensor) -> list[Tensor]:
        """Feature maps [P1, ..., P5], fine to coarse: the raw stem and the raw residual sums."""
        x = self.stem(x)
        maps = [x]
        x = self.maxpool(x)
        for each in self.stages:
            x = each(x)
            maps.append(x)
        return maps


class PreActStem(nn.Module):
    """One convolution, or three with norm and activation between them."""

    __constants__ = ("deep",)

    def __init__(self, node: net.PreActStem, spatial_dims: int) -> None:
        super().__init__()
        self.deep = node.deep
        self.conv = layer(node.conv, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.norm1 = layer(node.norm1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.norm2 = layer(node.norm2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)
        self.conv3 = layer(node.conv3, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        if not self.deep:
            return self.conv(x)
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)))
        return self.conv3(x)


class PreActStage(nn.Module):
    """The blocks of one resolution."""

    def __init__(self, blocks: Sequence, spatial_dims: int) -> None:
        super().__init__()
        self.blocks = stage(blocks, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class PreActHead(nn.Module):
    """Global average pooling and classifier."""

    def __init__(self, node: net.PreActHead, spatial_dims: int) -> None:
        super().__init__()
        self.pool = layer(node.pool, spatial_dims)
        self.fc = layer(node.fc, spatial_dims)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.pool(x)
        return x if pre_logits else self.fc(x)


class ResNet(_PostActStages):
    """A post-activation classifier: ResNet v1.5, vd, ResNeXt, SE, wide.

    ``nn.Sequential(*list(model.children())[:-1])`` leaves the classifier out, as for torchvision's and timm's networks.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes), or pooled features without classes.
    """

    __constants__ = ("activates", "depth")

    def __init__(self, model: Blueprint | str = "resnet50", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, arguments)
        node = expect(blueprint, net.ResNet, "ResNet", "PreActResNet or resvox.create_model")
        with Unfilled():
            super().__init__(node, blueprint.spatial_dims)
            self.avgpool = layer(node.avgpool, blueprint.spatial_dims)
            self.fc = layer(node.fc, blueprint.spatial_dims)
            self.activates = _add_activation(self, node, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.num_features = node.num_features
        materialize(self, node)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, (batch, channels, \\*size)."""
        return self.forward_pyramid(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From the last feature map to the output; ``pre_logits`` stops at the pooled features."""
        x = self.avgpool(x)
        if pre_logits:
            return x
        x = self.fc(x)
        if self.activates:
            x = self.activation(x)  # type: ignore[operator]
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    @torch.jit.unused
    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.fc

    @torch.jit.unused
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one with another number of classes; 0 gives pooled features."""
        self.fc = _new_classifier(self, num_classes)


class ResNetBackbone(_PostActStages):
    """A post-activation encoder: (batch, channels, \\*size) to the maps [P1, ..., P<depth>].

    Args:
        model: a blueprint without a head, or a name of the catalog with the arguments of
            :func:`resvox.create_model` (``encoder_depth=`` cuts it; ``out_indices=(1, 2)`` selects P2 and P3).
    """

    def __init__(self, model: Blueprint | str = "resnet50", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, {**arguments, "features_only": True} if isinstance(model, str) else arguments)
        node = expect(blueprint, net.ResNet, "ResNetBackbone", "PreActBackbone or resvox.create_model")
        with Unfilled():
            super().__init__(node, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.chosen = blueprint.maps
        materialize(self, node)

    __jit_unused_properties__ = ("feature_info",)

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and reduction of each map, as in timm."""
        return FeatureInfo.of(self.blueprint)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.forward_pyramid(x)
        return [maps[index] for index in self.chosen]


class PreActResNet(_PreActStages):
    """A pre-activation classifier (v2).

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes), or pooled features without classes.
    """

    __constants__ = ("activates",)

    def __init__(self, model: Blueprint | str = "resnet50v2", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, arguments)
        node = expect(blueprint, net.PreActResNet, "PreActResNet", "ResNet or resvox.create_model")
        with Unfilled():
            super().__init__(node, blueprint.spatial_dims)
            self.norm = layer(node.norm, blueprint.spatial_dims)
            self.act = layer(node.act, blueprint.spatial_dims)
            assert node.head is not None
            self.head = PreActHead(node.head, blueprint.spatial_dims)
            self.activates = _add_activation(self, node, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.num_features = node.num_features
        materialize(self, node)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map after its norm and activation, (batch, channels, \\*size)."""
        return self.act(self.norm(self.forward_pyramid(x)[-1]))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From the last feature map to the output; ``pre_logits`` stops at the pooled features."""
        x = self.head(x, pre_logits)
        if self.activates and not pre_logits:
            x = self.activation(x)  # type: ignore[operator]
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    @torch.jit.unused
    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    @torch.jit.unused
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one with another number of classes; 0 gives pooled features."""
        self.head.fc = _new_classifier(self, num_classes)


class PreActBackbone(_PreActStages):
    """A pre-activation encoder: (batch, channels, \\*size) to the maps [P1, ..., P<depth>].

    Args:
        model: a blueprint without a head, or a name of the catalog with the arguments of
            :func:`resvox.create_model` (``encoder_depth=`` cuts it; ``out_indices=(1, 2)`` selects P2 and P3).
    """

    def __init__(self, model: Blueprint | str = "resnet50v2", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, {**arguments, "features_only": True} if isinstance(model, str) else arguments)
        node = expect(blueprint, net.PreActResNet, "PreActBackbone", "ResNetBackbone or resvox.create_model")
        with Unfilled():
            super().__init__(node, blueprint.spatial_dims)
        self.blueprint = blueprint
        self.chosen = blueprint.maps
        materialize(self, node)

    __jit_unused_properties__ = ("feature_info",)

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and reduction of each map, as in timm."""
        return FeatureInfo.of(self.blueprint)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.forward_pyramid(x)
        return [maps[index] for index in self.chosen]


def backbone(blueprint: Blueprint) -> nn.Module:
    """The encoder of a blueprint without a head."""
    kind = ResNetBackbone if isinstance(blueprint.network, net.ResNet) else PreActBackbone
    return kind(blueprint)


def checkpoint_stages(module: nn.Module, enable: bool) -> None:
    """Switch gradient checkpointing of every residual stage below a module."""
    for each in module.modules():
        if isinstance(each, Stage):
            each.checkpointing = enable


def _add_activation(model: nn.Module, node: net.ResNet | net.PreActResNet, spatial_dims: int) -> bool:
    """Add the activation of the output as the last child, if the network has one; return whether it has.

    Otherwise the classifier is the last child, which ``children()[:-1]`` then excludes.
    """
    if node.activation is not None:
        model.activation = layer(node.activation, spatial_dims)
    return node.activation is not None


def _new_classifier(model: Any, num_classes: int) -> nn.Module:
    """Replace the last layer, the blueprint and the activation of the output for another number of classes."""
    model.blueprint, node = with_classes(model.blueprint, num_classes)
    with torch.device("meta"):
        fc = layer(node, model.blueprint.spatial_dims)
    fill_layer(fc, node, like=next(model.parameters()))
    if node is None and model.activates:
        del model.activation
        model.activates = False
    return fc


def with_classes(blueprint: Blueprint, num_classes: int) -> tuple[Blueprint, Linear | None]:
    """The blueprint with another number of classes, and its last layer. Features have no activation."""
    num_classes = plain(num_classes)
    if type(num_classes) is not int or num_classes < 0:
        raise BlueprintError(f"num_classes={num_classes!r}", expected="at least 1, or 0 for pooled features")
    network = blueprint.network
    if not isinstance(network, (net.ResNet, net.PreActResNet)):
        raise BlueprintError(f"{blueprint.name!r}", expected="a classifier")
    fc = Linear(in_features=network.num_features, out_features=num_classes) if num_classes else None
    activation = network.activation if num_classes else None
    changed: net.Network
    if isinstance(network, net.ResNet):
        changed = replace(network, fc=fc, activation=activation)
    else:
        assert network.head is not None
        changed = replace(network, head=replace(network.head, fc=fc), activation=activation)
    task = "classification" if num_classes else "features"
    return replace(blueprint, network=changed, num_classes=num_classes, task=task), fc


def as_blueprint(model: Blueprint | str, arguments: dict[str, Any]) -> Blueprint:
    """The blueprint that is given, or that of a name and its arguments."""
    if isinstance(model, str):
        return get_blueprint(model, **arguments)
    if arguments:
        raise BlueprintError(
            f"a blueprint and arguments {sorted(arguments)}",
            expected="one of the two",
            fix="give the arguments to resvox.get_blueprint",
        )
    return model


def expect(blueprint: Blueprint, kind: type[Any], owner: str, instead: str) -> Any:
    """The blueprint's network, if it is of that kind; otherwise an error that names the right class."""
    if not isinstance(blueprint.network, kind):
        raise BlueprintError(
            f"{blueprint.name!r} for {owner}",
            expected=f"a network that is a {kind.__name__}",
            fix=f"use {instead}",
        )
    return blueprint.network
