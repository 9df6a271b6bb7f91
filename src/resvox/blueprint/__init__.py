"""Networks as data: a tree of operations with every number resolved, in pure Python, without any framework."""

from resvox.blueprint.blueprint import Blueprint
from resvox.blueprint.choices import NormChoice, activation_of, output_activation_of, per_axis
from resvox.blueprint.monai.segresnet import SegResNetRecipe, resolve_segresnet, resolve_segresnet_ds
from resvox.blueprint.monai.unet import MonaiUNetRecipe, resolve_monai_unet
from resvox.blueprint.node import Node, Sequence, TensorSpec
from resvox.blueprint.resnet import resolve_resnet
from resvox.blueprint.resnet_recipe import ResNetRecipe
from resvox.blueprint.trace import Stage
from resvox.blueprint.trans_unet import TransUNetRecipe, resolve_trans_unet
from resvox.blueprint.unet import UNetRecipe, resolve_attention_unet, resolve_unet
from resvox.blueprint.unet_plus_plus import resolve_unet_plus_plus
from resvox.blueprint.voxelwise import DenseRecipe, resolve_dense

__all__ = [
    "Blueprint",
    "DenseRecipe",
    "MonaiUNetRecipe",
    "Node",
    "NormChoice",
    "ResNetRecipe",
    "SegResNetRecipe",
    "Sequence",
    "Stage",
    "TensorSpec",
    "TransUNetRecipe",
    "UNetRecipe",
    "activation_of",
    "output_activation_of",
    "per_axis",
    "resolve_attention_unet",
    "resolve_dense",
    "resolve_monai_unet",
    "resolve_resnet",
    "resolve_segresnet",
    "resolve_segresnet_ds",
    "resolve_trans_unet",
    "resolve_unet",
    "resolve_unet_plus_plus",
]
