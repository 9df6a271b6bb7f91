"""The plan of a segmentation: every decision, in one YAML file with comments, read back without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.training.plans.fields import check_fraction, check_least, plan_field
from resvox.training.plans.patch import PatchPlan


@dataclass(frozen=True, kw_only=True)
class Plan(PatchPlan):
    """Every decision of a segmentation's training.

    Follows nnU-Net (Isensee et al. 2021, Nat. Methods 18:203) in what is drawn from a dataset's fingerprint;
    see `draw_plan`.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = "segmentation"
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"loss": ("dice_ce", "ce"), "outputs": ("labels", "regions")}

    task: str = plan_field("segmentation", "what is learned", "task")
    num_classes: int = plan_field(2, "outputs: labels, background included, or regions", "data")
    outputs: str = plan_field(
        "labels", "labels: one of them for each voxel (softmax); regions: each by itself (sigmoid)", "data"
    )
    model: str = plan_field("unet", "a segmentation model of `resvox models`", "network")
    foreground_fraction: float = plan_field(0.5, "of the patches are centred on a voxel of a label", "preprocessing")
    loss: str = plan_field("dice_ce", "dice_ce or ce")

    def check_own(self) -> None:
        """As `PatchPlan`, and at least two labels or one region."""
        check_least(self, {"num_classes": 2 if self.outputs == "labels" else 1, "encoder_depth": 1})
        check_fraction(self, "foreground_fraction", may_be_one=True)
        super().check_own()

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return self.network_options(self.num_classes)
