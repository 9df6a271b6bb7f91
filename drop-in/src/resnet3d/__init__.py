"""The import name ``resnet3d``, answered by resvox: ResNet-18 for one prediction a voxel."""

from resvox.torch import BasicBlock, ResNet18_3D

__all__ = ["BasicBlock", "ResNet18_3D"]
