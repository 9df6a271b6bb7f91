"""Files by their addresses (``s3://``, ``gs://``, ``az://``, ``https://``, ``file://``): fetched, written, listed."""

from resvox.storage.addresses import Location, is_uri
from resvox.storage.cache import cached, local_copy
from resvox.storage.scratch import Scratch

__all__ = ["Location", "Scratch", "cached", "is_uri", "local_copy"]
