"""Blueprints as PyTorch modules."""

from __future__ import annotations

from torch import nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.catalog.segmenters import SEGMENTERS
from resvox.torch.dense import BasicBlock, ResNet18_3D
from resvox.torch.monai_unet import MonaiUNet
from resvox.torch.resnet import PreActBackbone, PreActResNet, ResNet, ResNetBackbone
from resvox.torch.segresnet import SegResNet, SegResNetDS
from resvox.torch.staged_unet import PlainUNet, ResEncUNet, ResidualUNet
from resvox.torch.trans_unet import TransUNet
from resvox.torch.unet import AttentionUNet, UNet
from resvox.torch.unet_plus_plus import UNetPlusPlus

__all__ = [
    "AttentionUNet",
    "BasicBlock",
    "MonaiUNet",
    "PlainUNet",
    "PreActBackbone",
    "PreActResNet",
    "ResEncUNet",
    "ResNet",
    "ResNet18_3D",
    "ResNetBackbone",
    "ResidualUNet",
    "SegResNet",
    "SegResNetDS",
    "TransUNet",
    "UNet",
    "UNetPlusPlus",
    "build",
]


# by the name of the blueprint's node, which is the catalog's name of the class
_SEGMENTERS = {row.class_name: globals()[row.class_name] for row in SEGMENTERS.values()}


def build(blueprint: Blueprint) -> nn.Module:
    """The module of a blueprint with initial values, on the current default device and with the default dtype."""
    network = blueprint.network
    if isinstance(network, net.Segmenter):
        module: nn.Module = _SEGMENTERS[type(network).__name__](blueprint)
        return module
    if isinstance(network, net.DenseResNet):
        return ResNet18_3D(blueprint=blueprint)
    if isinstance(network, net.PreActResNet):
        return PreActBackbone(blueprint) if network.head is None else PreActResNet(blueprint)
    return ResNetBackbone(blueprint) if network.avgpool is None else ResNet(blueprint)
