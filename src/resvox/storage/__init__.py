"""Files by their addresses (``s3://``, ``gs://``, ``az://``, ``https://``, ``file://``): fetched, written, listed.

What fetches and writes is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names
from resvox.storage.addresses import Location, is_uri

if TYPE_CHECKING:
    from resvox.storage.cache import cached, local_copy
    from resvox.storage.scratch import Scratch

__all__ = ["Location", "Scratch", "cached", "is_uri", "local_copy"]

__getattr__, __dir__ = lazy_names(__name__, {".scratch": ("Scratch",), ".cache": ("cached", "local_copy")})
