"""Reading a plan of any task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.text import read_yaml
from resvox.training.tasks import DEFAULT_TASK, plan_class


def plan_from_dict(values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> TrainingPlan:
    """The plan of the task that ``values`` name; of a segmentation where they name none.

    Raises:
        PlanError: an unknown task, or values that the plan rejects.
    """
    return plan_class(values.get("task", DEFAULT_TASK), path=path).from_dict(values, path=path)


def load_plan(path: str | os.PathLike[str]) -> TrainingPlan:
    """Read a plan of any task from YAML.

    Raises:
        PlanError: no such file, not YAML, or values that the plan rejects.
    """
    return plan_from_dict(read_yaml(path), path=path)
