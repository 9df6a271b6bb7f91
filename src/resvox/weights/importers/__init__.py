"""The peers whose weights are read and written: one file each."""

from resvox.weights.importers.importer import Importer, Peer
from resvox.weights.importers.registry import BY_NAME, PEERS, candidates, choose, importers_of

__all__ = ["BY_NAME", "PEERS", "Importer", "Peer", "candidates", "choose", "importers_of"]
