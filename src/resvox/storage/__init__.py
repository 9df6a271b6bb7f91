"""Files by their addresses (``s3://``, ``gs://``, ``az://``, ``https://``, ``file://``): fetched, written, listed.

What fetches and writes is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from resvox.storage.addresses import Location, is_uri

if TYPE_CHECKING:
    from resvox.storage.cache import cached, local_copy
    from resvox.storage.scratch import Scratch

__all__ = ["Location", "Scratch", "cached", "is_uri", "local_copy"]
_MODULE_OF = {"Scratch": "scratch", "cached": "cache", "local_copy": "cache"}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
