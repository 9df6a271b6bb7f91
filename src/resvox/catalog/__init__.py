"""The networks that exist: tables of variants, and from a name and options to a blueprint."""

from resvox.blueprint.tasks import TASKS
from resvox.catalog.dense import DENSE_VARIANTS, DenseVariant
from resvox.catalog.listing import FAMILIES, ModelList, list_models
from resvox.catalog.registry import get_blueprint, options_of, resolve_name
from resvox.catalog.resnets import ALIASES, VARIANTS, Variant

__all__ = [
    "ALIASES",
    "DENSE_VARIANTS",
    "FAMILIES",
    "TASKS",
    "VARIANTS",
    "DenseVariant",
    "ModelList",
    "Variant",
    "get_blueprint",
    "list_models",
    "options_of",
    "resolve_name",
]
