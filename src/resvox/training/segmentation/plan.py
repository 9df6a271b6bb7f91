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
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "loss": ("dice_ce", "ce"),
        "outputs": ("labels", "regions"),
        "foreground_order": ("spread", "last"),
        "foreground_by": ("case", "label"),
    }

    task: str = plan_field("segmentation", "what is learned", "task")
    num_classes: int = plan_field(2, "outputs: labels, background included, or regions", "data")
    outputs: str = plan_field(
        "labels", "labels: one of them for each voxel (softmax); regions: each by itself (sigmoid)", "data"
    )
    model: str = plan_field("unet", "a segmentation model of `resvox models`", "network")
    foreground_fraction: float = plan_field(0.5, "of the patches are centred on a voxel of a label", "preprocessing")
    foreground_order: str = plan_field(
        "spread",
        "which those are: spread over all steps, or the last of each batch, rounded, as in nnU-Net",
        "preprocessing",
    )
    foreground_by: str = plan_field(
        "case",
        "case: cases take turns, and a label of the case is drawn; label: labels take turns, so that a label that "
        "few cases have is seen as often as the others",
        "preprocessing",
    )
    loss: str = plan_field("dice_ce", "dice_ce or ce")
    batch_dice: bool = plan_field(True, "Dice of the batch as a whole; false: the mean of the Dice of each patch")
    label_smoothing: float = plan_field(0.0, "of the cross-entropy: share of the certainty spread over all labels")
    skeleton_recall: float = plan_field(0.0, "weight of the recall of centrelines in the loss, for vessels; 0: none")

    def check_own(self) -> None:
        """As `PatchPlan`, and at least two labels or one region."""
        check_least(self, {"num_classes": 2 if self.outputs == "labels" else 1, "encoder_depth": 1})
        check_fraction(self, "foreground_fraction", may_be_one=True)
        check_fraction(self, "label_smoothing")
        check_least(self, {"skeleton_recall": 0})
        super().check_own()

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return self.network_options(self.num_classes)
