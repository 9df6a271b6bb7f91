"""The plan of a segmentation: every decision, in one YAML file with comments, read back without loss."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.training.plans.base import MAY_CHANGE_ON_RESUME, TrainingPlan, read_yaml, said
from resvox.training.plans.fields import check_fraction, check_least, check_patch
from resvox.training.plans.patch import PatchPlan

__all__ = ["MAY_CHANGE_ON_RESUME", "Plan", "load_plan", "plan_from_dict"]


@dataclass(frozen=True, kw_only=True)
class Plan(PatchPlan):
    """Every decision of a segmentation's training.

    Follows nnU-Net (Isensee et al. 2021, Nat. Methods 18:203) in what is drawn from a dataset's fingerprint;
    see `draw_plan`.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = "segmentation"
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"loss": ("dice_ce", "ce")}

    task: str = said("segmentation", "what is learned", "task")
    num_classes: int = said(2, "labels, background included", "data")
    model: str = said("unet", "a segmentation model of `resvox models`", "network")
    foreground_fraction: float = said(0.5, "of the patches are centred on a voxel of a label", "sight")
    loss: str = said("dice_ce", "dice_ce or ce")

    def check_own(self) -> None:
        """See `check_patch`; and two classes at least."""
        check_least(self, {"num_classes": 2, "encoder_depth": 1})
        check_fraction(self, "foreground_fraction", may_be_one=True)
        check_patch(self)

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return self.network_options(self.num_classes)


def plan_from_dict(values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> TrainingPlan:
    """The plan of the task that ``values`` name; of a segmentation where they name none.

    Raises:
        PlanError: an unknown task, and what the plan refuses.
    """
    from resvox.training.tasks import plan_class

    return plan_class(values.get("task", "segmentation"), path=path).from_dict(values, path=path)


def load_plan(path: str | os.PathLike[str]) -> TrainingPlan:
    """Read a plan of any task from YAML.

    Raises:
        PlanError: no such file, not YAML, and what the plan refuses.
    """
    return plan_from_dict(read_yaml(path), path=path)
