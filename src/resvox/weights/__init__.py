"""WHERE numbers come from: model files, and the names tensors have in them."""

from resvox.weights.files import Header, read_header
from resvox.weights.models import load_model, save_model

__all__ = ["Header", "load_model", "read_header", "save_model"]
