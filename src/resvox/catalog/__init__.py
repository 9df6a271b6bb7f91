"""WHICH networks there are: tables, and the way from a name to a blueprint."""

from resvox.catalog.listing import FAMILIES, ModelList, list_models
from resvox.catalog.registry import get_blueprint, resolve_name
from resvox.catalog.resnets import ALIASES, VARIANTS, Variant

__all__ = [
    "ALIASES",
    "FAMILIES",
    "VARIANTS",
    "ModelList",
    "Variant",
    "get_blueprint",
    "list_models",
    "resolve_name",
]
