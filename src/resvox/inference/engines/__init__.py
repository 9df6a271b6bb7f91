"""Engines: they compute the outputs of a network, each with a framework and in a module of its own.

`resvox.inference.engines.table` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names

if TYPE_CHECKING:
    from resvox.inference.engines.choosing import engine_of_file, make_engine
    from resvox.inference.engines.protocol import Engine
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine", "engine_of_file", "make_engine"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {".protocol": ("Engine",), ".torch_engine": ("TorchEngine",), ".choosing": ("engine_of_file", "make_engine")},
)
