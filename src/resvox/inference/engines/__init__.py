"""Engines: what answers a batch of windows, each in a file of its own with its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.inference.engines.protocol import Engine

if TYPE_CHECKING:
    from resvox.inference.engines.choosing import engine_of_file, make_engine
    from resvox.inference.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine", "engine_of_file", "make_engine"]


def __getattr__(name: str) -> object:
    if name == "TorchEngine":
        from resvox.inference.engines.torch_engine import TorchEngine

        return TorchEngine
    if name in ("engine_of_file", "make_engine"):
        import resvox.inference.engines.choosing as choosing

        return getattr(choosing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
