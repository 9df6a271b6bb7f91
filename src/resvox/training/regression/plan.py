"""The plan of a dense regression: every decision, in one YAML file with comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.errors import PlanError
from resvox.training.plans.fields import check_least, plan_field
from resvox.training.plans.patch import PatchPlan


@dataclass(frozen=True, kw_only=True)
class RegressionPlan(PatchPlan):
    """Every decision of a dense regression's training; drawn by `draw_regression_plan`.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = "regression"
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"loss": ("l1", "mse", "huber"), "crop": ("none",)}

    task: str = plan_field("regression", "what is learned", "task")
    outputs: int = plan_field(1, "values for each voxel", "data")
    model: str = plan_field("unet", "a regression or segmentation model of `resvox models`", "network")
    target_mean: tuple[float, ...] = plan_field(
        (0.0,), "of each value; the network learns (value - mean) / std", "preprocessing"
    )
    target_std: tuple[float, ...] = plan_field((1.0,), "of each value", "preprocessing")
    loss: str = plan_field("l1", "l1, mse or huber, of (value - mean) / std")

    def check_own(self) -> None:
        """As `PatchPlan`, and one mean and one deviation per value."""
        check_least(self, {"outputs": 1, "encoder_depth": 1})
        if not len(self.target_mean) == len(self.target_std) == self.outputs or min(self.target_std) <= 0:
            raise PlanError(
                f"target_mean={self.target_mean}, target_std={self.target_std} with outputs={self.outputs}",
                expected="one mean, and one deviation above 0, for each value",
            )
        super().check_own()

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return self.network_options(self.outputs)
