"""Coercion and checks of a plan's fields: type, choice, range, and agreement with each other."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resvox.blueprint.recipe import LEVELS
from resvox.errors import PlanError
from resvox.training.plans.precision import Precision

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan
    from resvox.training.plans.patch import PatchPlan

FLOATS = ("spacing_mm", "target_mean", "target_std")  # fields of several numbers that need not be whole
CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("batch", "instance", "group"),
    "crop": ("none", "nonzero"),
    "optimizer": ("adamw", "sgd"),
    "decay": ("poly", "cosine", "constant"),
    "augmentation": ("none", "light", "default"),
    "weights_first_conv": ("sum", "repeat", "first"),
    "weights_inflate": ("centre", "average"),
    "precision": tuple(each.value for each in Precision),
}


def coerce(name: str, value: Any, hint: Any) -> Any:
    """The value as the field's type says it, or a PlanError: YAML reads 1e-3 as text and lists as lists."""
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


def check_choices(plan: TrainingPlan) -> None:
    for name, choices in {**CHOICES, **plan.CHOICES}.items():
        value = getattr(plan, name)
        if value not in choices:
            near = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
            raise PlanError(
                f"{name}={value!r}",
                expected=f"one of {', '.join(choices)}",
                fix=f"did you mean {near[0]!r}?" if near else "",
            )


def check_numbers(plan: TrainingPlan) -> None:
    least = {
        "in_channels": 1, "batch_size": 1, "steps": 1, "validation_interval": 1, "checkpoint_interval": 1,
        "warmup_steps": 0, "seed": 0, "weight_decay": 0, "gradient_clip": 0,
    }  # fmt: skip
    check_least(plan, least)
    for name in ("validation_fraction", "momentum"):
        check_fraction(plan, name)
    if plan.learning_rate <= 0 or (plan.max_minutes is not None and plan.max_minutes <= 0):
        raise PlanError(f"learning_rate={plan.learning_rate}, max_minutes={plan.max_minutes}", expected="more than 0")
    if not 0 < plan.layer_decay <= 1:
        raise PlanError(f"layer_decay={plan.layer_decay}", expected="above 0 and at most 1")
    if not 0 <= plan.frozen_stages <= LEVELS or (plan.frozen_stages and plan.weights is None):
        raise PlanError(
            f"frozen_stages={plan.frozen_stages}, weights={plan.weights!r}",
            expected=f"0 to {LEVELS}, and weights to keep",
            fix="set weights to a file, or frozen_stages to 0",
        )
    if plan.warmup_steps >= plan.steps:
        raise PlanError(
            f"warmup_steps={plan.warmup_steps} with steps={plan.steps}",
            expected="a warm-up shorter than the training",
            fix=f"set warmup_steps to {plan.steps // 20}",
        )


def check_least(plan: TrainingPlan, least: Mapping[str, int]) -> None:
    """Refuse a field below its least value."""
    for name, low in least.items():
        if getattr(plan, name) < low:
            raise PlanError(f"{name}={getattr(plan, name)}", expected=f"at least {low}")


def check_fraction(plan: TrainingPlan, name: str, *, may_be_one: bool = False) -> None:
    """Refuse a field that is not a fraction."""
    value = getattr(plan, name)
    if not 0 <= value <= 1 or (value == 1 and not may_be_one):
        raise PlanError(f"{name}={value}", expected="a fraction from 0 to 1")


def check_per_axis(plan: TrainingPlan, name: str) -> None:
    """Refuse a field that is not one positive number per axis, or None."""
    value = getattr(plan, name)
    if value is not None and (len(value) != plan.spatial_dims or min(value) <= 0):
        raise PlanError(f"{name}={value}", expected=f"{plan.spatial_dims} positive numbers, one per axis")


def check_common_shapes(plan: TrainingPlan) -> None:
    if plan.spatial_dims not in (2, 3):
        raise PlanError(f"spatial_dims={plan.spatial_dims}", expected="2 or 3")
    check_per_axis(plan, "spacing_mm")
    if len(plan.normalization) != plan.in_channels:
        raise PlanError(
            f"{len(plan.normalization)} normalizations for in_channels={plan.in_channels}",
            expected="one per channel",
        )
    if any(axis not in range(plan.spatial_dims) for axis in plan.mirror_axes):
        raise PlanError(f"mirror_axes={plan.mirror_axes}", expected=f"axes from 0 to {plan.spatial_dims - 1}")
    if len(plan.strides) != LEVELS or any(
        len(stride) != plan.spatial_dims or min(stride) < 1 for stride in plan.axis_strides
    ):
        raise PlanError(
            f"strides={plan.strides}",
            expected=f"{LEVELS} strides, each a number or {plan.spatial_dims} numbers",
        )


def check_patch(plan: PatchPlan) -> None:
    """The fields of a network that answers every voxel of a patch."""
    check_fraction(plan, "overlap")
    check_per_axis(plan, "patch_size")
    if not 1 <= plan.encoder_depth <= LEVELS or len(plan.decoder_filters) < plan.encoder_depth:
        raise PlanError(
            f"decoder_filters={plan.decoder_filters} with encoder_depth={plan.encoder_depth}",
            expected=f"a depth from 1 to {LEVELS}, and a width for each of its stages",
        )
    if any(size % total for size, total in zip(plan.patch_size, plan.total_stride, strict=True)):
        nearest = tuple(
            max(total, round(size / total) * total)
            for size, total in zip(plan.patch_size, plan.total_stride, strict=True)
        )
        raise PlanError(
            f"patch_size={plan.patch_size} with strides that divide it by {plan.total_stride}",
            expected="a patch whose axes are multiples of the total stride",
            fix=f"use patch_size {nearest}",
        )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (tuple, list)) else value
