"""Which tasks there are: their plans, and what the loop does for each. Loads torch only where a task is asked for."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan
    from resvox.training.task import Task

PLANS = {
    "segmentation": ("resvox.training.segmentation.plan", "Plan"),
    "classification": ("resvox.training.classification.plan", "ClassificationPlan"),
    "regression": ("resvox.training.regression.plan", "RegressionPlan"),
}
RUNNERS = {
    "segmentation": ("resvox.training.segmentation.task", "Segmentation"),
    "classification": ("resvox.training.classification.task", "Classification"),
    "regression": ("resvox.training.regression.task", "Regression"),
}
TASKS = tuple(PLANS)


def check_task(name: Any, *, path: str | os.PathLike[str] | None = None) -> str:
    """The name of a task, or a refusal.

    Raises:
        PlanError: there is no such task.
    """
    if name not in TASKS:
        raise PlanError(f"task={name!r}", expected=f"one of {', '.join(TASKS)}", path=path)
    return str(name)


def plan_class(name: Any, *, path: str | os.PathLike[str] | None = None) -> type[TrainingPlan]:
    """The class of a task's plans."""
    module, attribute = PLANS[check_task(name, path=path)]
    found: type[TrainingPlan] = getattr(import_module(module), attribute)
    return found


def task_of(plan: TrainingPlan) -> Task:
    """What the loop does for a plan's task."""
    module, attribute = RUNNERS[plan.task]
    made: Task = getattr(import_module(module), attribute)()
    return made
