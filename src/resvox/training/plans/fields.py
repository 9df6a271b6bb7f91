"""The fields of a plan: how one is declared, brought to its type and checked."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from resvox.errors import PlanError
from resvox.training.plans.precision import Precision

PARTS = ("task", "data", "network", "preprocessing", "learning", "monitoring")  # the order of the YAML
FLOATS = ("spacing_mm", "target_mean", "target_std")  # fields of several numbers that need not be whole
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("poly", "cosine", "constant")
AUGMENT_ON = ("auto", "processor", "device")
NORMS = ("batch", "instance", "group")  # those of the blueprint, whose import the command line does not need
AUGMENTATIONS = ("none", "light", "default", "nnunet")
CHOICES: dict[str, tuple[str, ...]] = {
    "norm": NORMS,
    "crop": ("none", "nonzero", "nonzero_mask"),
    "optimizer": OPTIMIZERS,
    "decay": SCHEDULES,
    "augmentation": AUGMENTATIONS,
    "weights_first_conv": ("sum", "repeat", "first"),
    "weights_inflate": ("centre", "average"),
    "weights_head": ("match", "new"),
    "precision": tuple(each.value for each in Precision),
}


def plan_field(default: Any, comment: str, part: str = "learning") -> Any:
    """A dataclass field of a plan: its default, its comment in the YAML, and the part of the YAML that holds it."""
    assert part in PARTS
    return field(default=default, metadata={"comment": comment, "part": part})


def coerce(name: str, value: Any, hint: Any) -> Any:
    """The value converted to the type of the field, or a PlanError: YAML reads 1e-3 as text and lists as lists."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    try:
        if bool in options:
            return _truth(value)
        if int in options and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if float in options and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
        if str in options and isinstance(value, str):
            return value
        if any(typing.get_origin(option) is tuple for option in options) and isinstance(value, (tuple, list)):
            return _coerce_items(name, _frozen(value))
        if any(typing.get_origin(option) is Mapping for option in options) and isinstance(value, Mapping):
            return {str(key): item for key, item in value.items()}
    except (TypeError, ValueError, OverflowError):
        pass  # falls to the one refusal below
    raise PlanError(f"{name}={value!r}", expected=_type_name(hint), fix=f"correct {name}")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _coerce_items(name: str, items: tuple[Any, ...]) -> tuple[Any, ...]:
    if name == "normalization":
        if not all(isinstance(item, Mapping) for item in items):
            raise TypeError
        return tuple(dict(item) for item in items)
    number = float if name in FLOATS else int
    nested = name == "strides"

    def convert(item: Any) -> Any:
        if nested and isinstance(item, tuple):
            return tuple(convert(each) for each in item)
        if isinstance(item, bool) or float(item) != number(item):
            raise ValueError
        return number(item)

    return tuple(convert(item) for item in items)


def _type_name(hint: Any) -> str:
    text = str(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) else hint.__name__
    plain = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
    return plain.get(text, text.replace("collections.abc.", "").replace("typing.", ""))


def check_least(plan: object, least: Mapping[str, int]) -> None:
    """Refuse a field below its least value."""
    for name, low in least.items():
        if getattr(plan, name) < low:
            raise PlanError(f"{name}={getattr(plan, name)}", expected=f"at least {low}")


def check_fraction(plan: object, name: str, *, may_be_one: bool = False) -> None:
    """Refuse a field that is not a fraction."""
    value = getattr(plan, name)
    if not 0 <= value <= 1 or (value == 1 and not may_be_one):
        raise PlanError(f"{name}={value}", expected="a fraction from 0 to 1")


def check_per_axis(plan: object, name: str, spatial_dims: int) -> None:
    """Refuse a field that is not one positive number per axis, or None."""
    value = getattr(plan, name)
    if value is not None and (len(value) != spatial_dims or min(value) <= 0):
        raise PlanError(f"{name}={value}", expected=f"{spatial_dims} positive numbers, one per axis")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (tuple, list)) else value
