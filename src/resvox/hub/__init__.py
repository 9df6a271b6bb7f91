"""Models on a hub of Hugging Face: addresses, downloads into its cache, and publishing. Needs the extra ``hub``."""

from resvox.hub.address import HubAddress, is_address
from resvox.hub.fetching import fetched, local_path, pinned

__all__ = ["HubAddress", "fetched", "is_address", "local_path", "pinned"]
