"""WHERE numbers come from: model files, peers' checkpoints, and the names tensors have in them."""

from resvox.weights.converting import convert_weights
from resvox.weights.exporting import export_weights
from resvox.weights.formats.safetensors import Header, read_header
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
    "save_model",
]
