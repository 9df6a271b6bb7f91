"""How a plan is made of decisions, of rules that read the data, and of what the user has settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from resvox.training.plans.base import TrainingPlan

Drawn = tuple[dict[str, Any], dict[str, str]]  # fields, and the reasons of some of them
Facts = TypeVar("Facts")
AnyPlan = TypeVar("AnyPlan", bound=TrainingPlan)


def planned(
    plan_class: type[AnyPlan],
    facts: Facts,
    rules: Sequence[Callable[[Facts, Mapping[str, Any], str], Drawn]],
    *,
    decided: Mapping[str, Any],
    notes: Mapping[str, str],
    changes: Mapping[str, Any],
    device: str,
) -> AnyPlan:
    """The plan of decisions, of rules one after the other, and of changes, which the rules see and cannot undo.

    Args:
        rules: each is called with the facts of the data, the fields that are settled so far, and the device.
        notes: the reasons of the decisions.

    Raises:
        PlanError: fields that contradict each other.
    """
    fields, reasons = dict(decided), dict(notes)
    for rule in rules:
        values, why = rule(facts, {**fields, **changes}, device)
        fields.update(values)
        reasons.update(why)
    return finished_plan(plan_class, fields, reasons, changes)


def finished_plan(
    plan_class: type[AnyPlan], decided: Mapping[str, Any], notes: Mapping[str, str], changes: Mapping[str, Any]
) -> AnyPlan:
    """The plan of decisions and changes, with the reasons; a change has none but that it was given.

    Raises:
        PlanError: fields that contradict each other.
    """
    plan = plan_class.from_dict({**decided, **changes})
    return plan_class(**{**plan.to_dict(), "notes": {**notes, **dict.fromkeys(changes, "given")}})
