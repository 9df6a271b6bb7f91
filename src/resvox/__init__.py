"""resvox: residual networks for 2D images and 3D volumes, one blueprint, from a scan to a label map.

The public names load what they need when they are first used; ``import resvox`` loads neither torch nor keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resvox._version import __version__

if TYPE_CHECKING:
    from resvox.blueprint import Blueprint
    from resvox.catalog import get_blueprint, list_models
    from resvox.factory import create_model
    from resvox.viewer import view
    from resvox.walk import Walkthrough, walkthrough
    from resvox.weights import create_model_from, export_weights, load_model, load_weights, save_model

_DEFINED_IN = {
    "Blueprint": "resvox.blueprint",
    "get_blueprint": "resvox.catalog",
    "list_models": "resvox.catalog",
    "create_model": "resvox.factory",
    "Walkthrough": "resvox.walk",
    "walkthrough": "resvox.walk",
    "view": "resvox.viewer",
    "save_model": "resvox.weights",
    "load_model": "resvox.weights",
    "load_weights": "resvox.weights",
    "create_model_from": "resvox.weights",
    "export_weights": "resvox.weights",
}
_PACKAGES = (
    "blueprint",
    "catalog",
    "datasets",
    "errors",
    "evaluation",
    "hub",
    "inference",
    "keras",
    "prediction",
    "preprocessing",
    "torch",
    "training",
    "viewer",
    "volumes",
    "walk",
    "weights",
    "workflow",
)

__all__ = [
    "Blueprint",
    "Walkthrough",
    "__version__",
    "create_model",
    "create_model_from",
    "export_weights",
    "get_blueprint",
    "list_models",
    "load_model",
    "load_weights",
    "save_model",
    "view",
    "walkthrough",
]


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"resvox.{name}")
    raise AttributeError(f"module 'resvox' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DEFINED_IN, *_PACKAGES})
