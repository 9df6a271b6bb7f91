"""Residual networks and U-Nets under medicai's names and with its defaults, built by resvox.

Every model is a ``resvox.keras`` model: it saves, loads and converts as those do. Unknown arguments are refused by
name.
"""

from __future__ import annotations

from typing import Any

from medicai.models.registry import create_model, list_models
from medicai.models.residual import CLASSIFIERS, ResNetBackbone
from medicai.models.segmentation import AttentionUNet, TransUNet, UNet, UNetPlusPlus

__all__ = [
    "AttentionUNet",
    "ResNetBackbone",
    "TransUNet",
    "UNet",
    "UNetPlusPlus",
    "create_model",
    "list_models",
    *CLASSIFIERS,
]


def __getattr__(name: str) -> Any:
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    raise AttributeError(
        f"module 'medicai.models' has no attribute {name!r}: this one is resvox's drop-in, "
        "which holds the residual networks and the segmentation models on them"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *CLASSIFIERS})
