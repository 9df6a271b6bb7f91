"""WHERE numbers come from: model files, peers' checkpoints, and the names tensors have in them.

Names are imported when they are first used: reading a header needs no importer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names

if TYPE_CHECKING:
    from resvox.weights.converting import convert_weights
    from resvox.weights.exporting import export_weights
    from resvox.weights.formats.safetensors import Header, read_header, read_metadata
    from resvox.weights.importers import PEERS
    from resvox.weights.loading import create_model_from, load_weights
    from resvox.weights.matching import NetworkOf, network_of
    from resvox.weights.models import load_model, save_model
    from resvox.weights.provenance import origin_of
    from resvox.weights.report import LoadReport

__all__ = [
    "PEERS",
    "Header",
    "LoadReport",
    "NetworkOf",
    "convert_weights",
    "create_model_from",
    "export_weights",
    "load_model",
    "load_weights",
    "network_of",
    "origin_of",
    "read_header",
    "read_metadata",
    "save_model",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".converting": ("convert_weights",),
        ".exporting": ("export_weights",),
        ".formats.safetensors": ("Header", "read_header", "read_metadata"),
        ".importers": ("PEERS",),
        ".loading": ("create_model_from", "load_weights"),
        ".matching": ("NetworkOf", "network_of"),
        ".models": ("load_model", "save_model"),
        ".provenance": ("origin_of",),
        ".report": ("LoadReport",),
    },
)
