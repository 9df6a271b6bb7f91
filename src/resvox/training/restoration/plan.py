"""The plan of a restoration: every decision, in one YAML file with comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.errors import PlanError
from resvox.training.plans.fields import check_fraction, check_least, check_per_axis, plan_field
from resvox.training.plans.patch import PatchPlan


@dataclass(frozen=True, kw_only=True)
class RestorationPlan(PatchPlan):
    """Every decision of a pretraining that restores hidden parts of scans; drawn by `make_plan`.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = "restoration"
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"loss": ("l1", "mse"), "crop": ("none", "nonzero")}

    task: str = plan_field("restoration", "what is learned", "task")
    model: str = plan_field("unet", "a segmentation model of `resvox models`", "network")
    hidden_fraction: float = plan_field(0.4, "share of the blocks of a patch that are hidden", "preprocessing")
    hidden_block: tuple[int, ...] = plan_field((8, 8, 8), "voxels of a block", "preprocessing")
    loss: str = plan_field("l1", "l1 or mse, of values that are normalised")
    visible_weight: float = plan_field(0.25, "what a voxel that is shown counts in the loss; a hidden one counts 1")

    def check_own(self) -> None:
        """As `PatchPlan`, and blocks of which some are hidden and some are seen."""
        check_least(self, {"encoder_depth": 1})
        check_per_axis(self, "hidden_block", self.spatial_dims)
        check_fraction(self, "visible_weight", may_be_one=True)
        if not 0 < self.hidden_fraction < 1:
            raise PlanError(f"hidden_fraction={self.hidden_fraction}", expected="a fraction above 0 and below 1")
        super().check_own()
        if all(block >= size for block, size in zip(self.hidden_block, self.patch_size, strict=True)):
            raise PlanError(
                f"hidden_block={self.hidden_block} with patch_size={self.patch_size}",
                expected="several blocks in a patch",
                fix="make hidden_block smaller",
            )

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`: an output for each channel."""
        return self.network_options(self.in_channels)
