"""What `train` does for each task: how its data are read, and how a plan is drawn from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan


def read_for(task: str, dataset: str | os.PathLike[str]) -> Any:
    """The dataset, as the task reads it.

    Raises:
        DatasetError: data that cannot be used.
    """
    if task == "classification":
        from resvox.training import read_classification

        return read_classification(dataset)
    if task == "regression":
        from resvox.training import read_regression

        return read_regression(dataset)
    from resvox.training import read_dataset

    return read_dataset(dataset)


def draw_for(task: str, dataset: Any, *, device: str, changes: Mapping[str, Any]) -> TrainingPlan:
    """A plan drawn from the data.

    Raises:
        DatasetError: a case that cannot be used. PlanError: a change that contradicts the data.
    """
    if task == "classification":
        from resvox.training import draw_classification_plan, take_classification_facts

        return draw_classification_plan(take_classification_facts(dataset), device=device, **changes)
    if task == "regression":
        from resvox.training import draw_regression_plan, take_regression_facts

        return draw_regression_plan(take_regression_facts(dataset), device=device, **changes)
    from resvox.training import draw_plan, take_fingerprint

    return draw_plan(take_fingerprint(dataset), device=device, **changes)


def fields_for(task: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for under the names that the task's plan has.

    Raises:
        PlanError: something that the task has no use for.
    """
    settled = dict(changes)
    if task == "classification":
        if "encoder" in settled:
            raise PlanError(
                f"encoder={settled['encoder']!r} for a classification",
                expected="the network itself as model",
                fix=f"--model {settled['encoder']}",
            )
        if "patch_size" in settled:
            settled["image_size"] = settled.pop("patch_size")
    return settled
