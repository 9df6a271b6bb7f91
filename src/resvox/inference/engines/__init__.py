"""Engines: they compute the outputs of a network, each with a framework and in a module of its own.

`resvox.inference.engines.table` lists them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resvox.inference.engines.choosing import engine_of_file, make_engine
    from resvox.inference.engines.protocol import Engine
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine", "engine_of_file", "make_engine"]
_MODULE_OF = {
    "Engine": "protocol",
    "TorchEngine": "torch_engine",
    "engine_of_file": "choosing",
    "make_engine": "choosing",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
