"""The peers whose weights are read: one table each."""

from resvox.weights.importers.importer import Importer
from resvox.weights.importers.peers import IMPORTERS, PEERS, candidates, choose, importers_of

__all__ = ["IMPORTERS", "PEERS", "Importer", "candidates", "choose", "importers_of"]
