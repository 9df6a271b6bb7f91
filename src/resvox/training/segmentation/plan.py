"""The plan of a segmentation: every decision, in one YAML file with comments, read back without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from resvox.errors import PlanError
from resvox.training.plans.fields import check_fraction, check_least, plan_field
from resvox.training.plans.patch import PatchPlan

if TYPE_CHECKING:
    from resvox.preprocessing import NnunetPreprocessing, Preprocessing


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
        "pipeline": ("resvox", "nnunet"),
        "foreground_by": ("case", "label"),
    }

    task: str = plan_field("segmentation", "what is learned", "task")
    num_classes: int = plan_field(2, "outputs: labels, background included, or regions", "data")
    outputs: str = plan_field(
        "labels", "labels: one of them for each voxel (softmax); regions: each by itself (sigmoid)", "data"
    )
    model: str = plan_field("unet", "a segmentation model of `resvox models`", "network")
    pipeline: str = plan_field(
        "resvox",
        "how scans are prepared: resvox, or nnunet: its crop, normalization and resampling with cubic splines",
        "preprocessing",
    )
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
        if self.pipeline == "nnunet" and (self.spatial_dims != 3 or self.spacing_mm is None or self.crop != "nonzero"):
            raise PlanError(
                f"pipeline='nnunet' with spatial_dims={self.spatial_dims}, spacing_mm={self.spacing_mm}, "
                f"crop={self.crop!r}",
                expected="volumes, a spacing, and crop='nonzero'",
                fix="set pipeline to resvox",
            )

    def preparation(self) -> Preprocessing | NnunetPreprocessing:
        """What is done to a scan and its labels before the network sees them."""
        if self.pipeline == "resvox":
            return self.preprocessing()
        from resvox.preprocessing import NnunetPreprocessing

        assert self.spacing_mm is not None
        rules = [dict(_nnunet_rule(rule)) for rule in self.normalization]
        return NnunetPreprocessing.from_dict(
            {"spacing_mm": list(self.spacing_mm), "rules": rules, "orientation": self.orientation}
        )

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return self.network_options(self.num_classes)


def _nnunet_rule(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """A normalization of the plan as nnU-Net computes it."""
    if rule["kind"] == "zscore":
        return {"scheme": "ZScoreNormalization", "masked": bool(rule.get("nonzero_only", False))}
    low, high = float(rule["low"]), float(rule["high"])
    mean, std = rule.get("mean"), rule.get("std")
    return {
        "scheme": "CTNormalization",
        "percentile_00_5": low,
        "percentile_99_5": high,
        "mean": (low + high) / 2 if mean is None else mean,
        "std": (high - low) / 2 if std is None else std,
    }
