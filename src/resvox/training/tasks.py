"""The tasks of training: one row per task. The only module of training that names them.

A row holds dotted names, resolved when they are needed, so that the table itself loads neither torch nor a reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.training.plans.recipe import DEFAULT_RECIPE, Recipe

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan
    from resvox.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a task does not take an option; ``{value}`` in ``fix`` stands for the value that was given."""

    expected: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """What training knows of a task.

    Args:
        reader: ``path -> dataset``.
        fingerprint: ``dataset -> fingerprint``.
        planner: ``(fingerprint, device=..., **changes) -> plan``.
        recipes: further planners by the name of a recipe, which take ``recipe=Recipe(...)`` too.
        plan: the class of its plans.
        runner: the class that the loop drives, a `Task`.
        weights_fields: ``(network found in a weights file, model name) -> plan fields``; None where ``weights`` is
            refused.
        models: the tasks of the catalog whose networks it can train.
        renamed: options of `TrainOptions` that its plan knows by another name.
        refused: options that it does not take.
        has_label_map: whether its labels are drawn in colours.
    """

    reader: str
    fingerprint: str
    planner: str
    plan: str
    runner: str
    weights_fields: str | None
    models: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    has_label_map: bool = False
    recipes: Mapping[str, str] = field(default_factory=dict)


ONE_LEVEL = Refusal(expected="a task whose networks have a decoder", fix="leave --deep-supervision out")
NO_LABEL_MAP = Refusal(expected="label maps", fix="leave --batch-dice out")
NO_CLASSES = Refusal(
    expected="a classification", fix="leave --class-weights and --balanced out; --oversample is for label maps"
)
# of tasks that learn values
NO_LABELS = {
    "class_balance": NO_CLASSES,
    "batch_dice": NO_LABEL_MAP,
    "label_smoothing": Refusal(expected="labels or classes", fix="leave --label-smoothing out"),
    "foreground_fraction": Refusal(expected="label maps", fix="leave --oversample out"),
}

TASKS: dict[str, TaskRow] = {
    "segmentation": TaskRow(
        reader="resvox.datasets.read_dataset",
        fingerprint="resvox.training.segmentation.fingerprint.take_fingerprint",
        planner="resvox.training.segmentation.planning.make_plan",
        plan="resvox.training.segmentation.plan.Plan",
        runner="resvox.training.segmentation.task.Segmentation",
        weights_fields="resvox.training.segmentation.planning.weights_fields",
        models=("segmentation",),
        refused={"class_balance": NO_CLASSES},
        recipes={"nnunet": "resvox.training.segmentation.nnunet_planning.make_plan"},
        has_label_map=True,
    ),
    "classification": TaskRow(
        reader="resvox.datasets.read_classification",
        fingerprint="resvox.training.classification.fingerprint.take_classification_facts",
        planner="resvox.training.classification.planning.make_plan",
        plan="resvox.training.classification.plan.ClassificationPlan",
        runner="resvox.training.classification.task.Classification",
        weights_fields="resvox.training.classification.planning.weights_fields",
        models=("classification",),
        renamed={"patch_size": "image_size"},
        refused={
            "encoder": Refusal(expected="the network itself as model", fix="--model {value}"),
            "deep_supervision": ONE_LEVEL,
            "batch_dice": NO_LABEL_MAP,
            "foreground_fraction": Refusal(expected="whole images", fix="--balanced shows every class equally often"),
        },
    ),
    "regression": TaskRow(
        reader="resvox.datasets.read_regression",
        fingerprint="resvox.training.regression.fingerprint.take_regression_facts",
        planner="resvox.training.regression.planning.make_plan",
        plan="resvox.training.regression.plan.RegressionPlan",
        runner="resvox.training.regression.task.Regression",
        weights_fields=None,
        # A U-Net with one output per value is as good for dense regression as for segmentation.
        models=("regression", "segmentation"),
        refused={
            "weights": Refusal(expected="a segmentation or a classification", fix="leave --weights out"),
            **NO_LABELS,
        },
    ),
    # pretraining: the weights of its networks are what another training begins from
    "restoration": TaskRow(
        reader="resvox.datasets.scans.read_scans",
        fingerprint="resvox.training.restoration.fingerprint.take_scan_facts",
        planner="resvox.training.restoration.planning.make_plan",
        plan="resvox.training.restoration.plan.RestorationPlan",
        runner="resvox.training.restoration.task.Restoration",
        weights_fields="resvox.training.segmentation.planning.weights_fields",
        models=("segmentation",),
        refused=NO_LABELS,
    ),
}
DEFAULT_TASK = next(iter(TASKS))  # of a plan that names none, as those written before there were several


def check_task(name: Any, *, path: str | os.PathLike[str] | None = None) -> str:
    """The name of a task.

    Raises:
        PlanError: there is no such task.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise PlanError(f"task={name!r}", expected=f"one of {', '.join(TASKS)}", path=path)
    return name


def read_for(task: str, dataset: str | os.PathLike[str]) -> Any:
    """The dataset, read as the task needs it.

    Raises:
        DatasetError: data that cannot be used.
    """
    return _resolve(TASKS[check_task(task)].reader)(dataset)


def plan_for(
    task: str,
    dataset: Any,
    *,
    device: str,
    changes: Mapping[str, Any],
    recipe: Recipe | None = None,
    on_fingerprint: Callable[[Any], object] | None = None,
) -> TrainingPlan:
    """A plan made from the dataset's fingerprint.

    Args:
        on_fingerprint: called with the fingerprint.

    Raises:
        DatasetError: a case that cannot be used. PlanError: a change that contradicts the data, a recipe that the task
            does not have.
    """
    row = TASKS[check_task(task)]
    planner: str = row.planner
    more: dict[str, Any] = {}
    if recipe is not None and recipe.name != DEFAULT_RECIPE:
        planner, more = _planner_of(recipe.name, task), {"recipe": recipe}
    fingerprint = _resolve(row.fingerprint)(dataset)
    if on_fingerprint is not None:
        on_fingerprint(fingerprint)
    plan: TrainingPlan = _resolve(planner)(fingerprint, device=device, **more, **changes)
    return plan


def _planner_of(recipe: str, task: str) -> str:
    if recipe not in TASKS[task].recipes:
        known = [name for name, row in TASKS.items() if recipe in row.recipes]
        raise PlanError(f"recipe={recipe!r} for a {task}", expected=f"a {' or '.join(known)}", fix="leave --recipe out")
    return TASKS[task].recipes[recipe]


def fields_for(task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options under the names that the task's plan has for them.

    Raises:
        PlanError: an option that the task does not take.
    """
    row = TASKS[check_task(task)]
    for name, refusal in row.refused.items():
        if name in options:
            raise PlanError(
                f"{name}={options[name]!r} for a {task}",
                expected=refusal.expected,
                fix=refusal.fix.format(value=options[name]),
            )
    return {row.renamed.get(name, name): value for name, value in options.items()}


def weights_fields_for(task: str, found: Any, model: str | None) -> dict[str, Any]:
    """The fields of a plan that the network in a weights file settles."""
    function = TASKS[check_task(task)].weights_fields
    settled: dict[str, Any] = {} if function is None else _resolve(function)(found, model)
    return settled


def plan_class(name: Any, *, path: str | os.PathLike[str] | None = None) -> type[TrainingPlan]:
    """The class of a task's plans.

    Raises:
        PlanError: there is no such task.
    """
    found: type[TrainingPlan] = _resolve(TASKS[check_task(name, path=path)].plan)
    return found


def task_of(plan: TrainingPlan) -> Task:
    """What the loop does for a plan's task."""
    made: Task = _resolve(TASKS[plan.task].runner)()
    return made


def _resolve(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)
