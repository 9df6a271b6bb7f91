"""Residual networks and U-Nets under medicai's names and with its defaults, built by resvox.

Every model is a ``resvox.keras`` model: it saves, loads and converts as those do. Unknown arguments are refused by
name.
"""

from __future__ import annotations

from typing import Any

from medicai.models.registry import create_model, list_models
from medicai.models.residual import CLASSIFIERS, ResNetBackbone
from medicai.models.segmentation import AttentionUNet, UNet, UNetPlusPlus

__all__ = [
    "AttentionUNet",
    "ResNetBackbone",
    "UNet",
    "UNetPlusPlus",
    "create_model",
    "list_models",
    *CLASSIFIERS,
]

_TO_COME = ("TransUNet",)


def __getattr__(name: str) -> Any:
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    if name in _TO_COME:
        # an AttributeError would lose its words in `from medicai.models import ...`
        raise ImportError(f"{name} is not in resvox's drop-in yet; it has UNet and the residual networks")
    raise AttributeError(
        f"module 'medicai.models' has no attribute {name!r}: this one is resvox's drop-in, "
        "which holds the residual networks and the U-Nets on them"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *CLASSIFIERS})
