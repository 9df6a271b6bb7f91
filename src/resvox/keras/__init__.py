"""Blueprints as functional Keras models, channels last, on the torch, JAX and TensorFlow backends.

Importing this selects Keras's torch backend if no backend has been chosen (by ``KERAS_BACKEND``, an edited
``keras.json``, or an earlier import of Keras).
"""

# ruff: noqa: E402 (the backend is selected before Keras is imported)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.keras.backend import choose_backend

choose_backend()

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.catalog.segmenters import SEGMENTERS
from resvox.keras.dense import ResNet18_3D
from resvox.keras.model import BlueprintModel
from resvox.keras.peer_networks.monai_unet import MonaiUNet
from resvox.keras.peer_networks.segresnet import SegResNet, SegResNetDS
from resvox.keras.peer_networks.staged_unet import PlainUNet, ResEncUNet, ResidualUNet
from resvox.keras.resnet import ResNet, ResNetBackbone
from resvox.keras.trans_unet import TransUNet
from resvox.keras.unet import AttentionUNet, UNet
from resvox.keras.unet_plus_plus import UNetPlusPlus
from resvox.keras.variants import BUILDERS

__all__ = [
    "AttentionUNet",
    "BlueprintModel",
    "PlainUNet",
    "ResEncUNet",
    "ResNet",
    "ResNet18_3D",
    "ResNetBackbone",
    "ResidualUNet",
    "MonaiUNet",
    "SegResNet",
    "SegResNetDS",
    "TransUNet",
    "UNet",
    "UNetPlusPlus",
    "build",
    *BUILDERS,
]
# by the name of the blueprint's node, which is the catalog's name of the class
_SEGMENTERS: dict[str, Any] = {row.class_name: globals()[row.class_name] for row in SEGMENTERS.values()}


def build(
    blueprint: Blueprint,
    *,
    name: str | None = None,
    dtype: Any = None,
    input_shape: Sequence[int | None] | None = None,
    input_tensor: Any = None,
    include_rescaling: bool = False,
    pooling: str | None = None,
) -> BlueprintModel:
    """The functional model of a blueprint, initialised.

    Args:
        blueprint: from :func:`resvox.get_blueprint`.
        name: name of the model; by default that of the blueprint.
        dtype: a policy or its name, such as ``"mixed_bfloat16"``; by default the current one. Outputs of heads
            are float32 under any 16-bit policy.
        input_shape: ``(*spatial, channels)``; by default any size.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        pooling: for pooled features: ``"avg"`` (the default) or ``"max"``.

    Raises:
        BlueprintError: arguments that contradict the blueprint.
    """
    arguments: dict[str, Any] = {
        "name": name,
        "dtype": dtype,
        "input_shape": input_shape,
        "input_tensor": input_tensor,
        "include_rescaling": include_rescaling,
    }
    network = blueprint.network
    if pooling is not None:
        return ResNet(blueprint, pooling=pooling, **arguments)
    if isinstance(network, net.Segmenter):
        model: BlueprintModel = _SEGMENTERS[type(network).__name__](blueprint, **arguments)
        return model
    if isinstance(network, net.DenseResNet):
        return ResNet18_3D(blueprint, **arguments)
    pools = network.avgpool if isinstance(network, net.ResNet) else network.head
    return ResNet(blueprint, **arguments) if pools else ResNetBackbone(blueprint, **arguments)


def __getattr__(name: str) -> Any:
    if name in BUILDERS:
        return BUILDERS[name]
    raise AttributeError(f"module 'resvox.keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *BUILDERS})
