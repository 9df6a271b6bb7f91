"""What the plans of segmentation and dense regression share: a patch in, a value for each of its voxels out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from resvox.blueprint.resnet_recipe import LEVELS
from resvox.errors import PlanError
from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.fields import check_fraction, check_least, check_per_axis, plan_field


@dataclass(frozen=True, kw_only=True)
class PatchPlan(TrainingPlan):
    """Decisions on the network and its patch; abstract."""

    encoder: str = plan_field("resnet18", "its encoder, where it has one", "network")
    encoder_depth: int = plan_field(5, "how many of the encoder's five levels are used", "network")
    decoder_filters: tuple[int, ...] = plan_field(
        (256, 128, 64, 32, 16),
        "width of each decoder stage, deepest first (those beyond encoder_depth are left out)",
        "network",
    )
    deep_supervision: bool = plan_field(
        False, "learn from coarser levels too, each half as much as the finer one, where the model can", "network"
    )
    drops_coarsest_level: bool = plan_field(
        False, "with deep supervision: the coarsest level learns nothing of its own, as in nnU-Net", "network"
    )
    patch_size: tuple[int, ...] = plan_field(
        (64, 64, 64), "voxels of a training patch and of the inference window", "preprocessing"
    )
    patch_stride: int = plan_field(
        1,
        "each sample draws the step between its voxels, from 1 to this value; with 2, half of the patches have half "
        "the resolution",
        "preprocessing",
    )
    batch_size: int = plan_field(2, "patches a step, over all processes together", "preprocessing")
    overlap: float = plan_field(0.5, "of neighbouring inference windows, a fraction of the patch", "preprocessing")

    @property
    def sample_size(self) -> tuple[int, ...]:
        """The size of a patch."""
        return self.patch_size

    def check_own(self) -> None:
        """Check overlap, patch, depth and filters."""
        _check_patch(self)

    @property
    def total_stride(self) -> tuple[int, ...]:
        """How much smaller the deepest feature map in use is, one factor per axis."""
        return tuple(
            math.prod(stride[axis] for stride in self.axis_strides[: self.encoder_depth])
            for axis in range(self.spatial_dims)
        )

    def network_options(self, outputs: int) -> dict[str, Any]:
        """Arguments for `resvox.create_model`: of the plan's decisions those that the model takes."""
        from resvox.catalog import options_of

        taken = options_of(self.model)
        if self.deep_supervision and "deep_supervision" not in taken:
            raise PlanError(
                f"deep_supervision=True with model={self.model!r}",
                expected="a model with several levels to learn from",
                fix="set deep_supervision to false",
            )
        decided = {
            "encoder_name": self.encoder,
            "encoder_depth": self.encoder_depth,
            "decoder_filters": self.decoder_filters,
            "strides": self.strides,
            "stride": self.strides[0],  # of a network that halves its input once
            "norm": self.norm,
            "image_size": self.patch_size,  # of a transformer, whose tokens have places
            "decoder_filter_order": "deepest_first",  # the order of decoder_filters
            "deep_supervision": self.deep_supervision,
            "resolution": self.spacing_mm,  # of a network whose kernels follow it
        }
        if "spacing_mm" in taken:  # the stages of such a network follow from its patch, where they are not listed
            del decided["strides"]
            if not {"strides", "kernels"} & set(self.further_options):
                decided.update(patch_size=self.patch_size, spacing_mm=self.spacing_mm)
        return {
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "num_classes": outputs,
            **{name: value for name, value in decided.items() if name in taken},
        }


def _check_patch(plan: PatchPlan) -> None:
    """The fields of a network that answers every voxel of a patch."""
    check_fraction(plan, "overlap")
    check_least(plan, {"patch_stride": 1})
    check_per_axis(plan, "patch_size", plan.spatial_dims)
    if not 1 <= plan.encoder_depth <= LEVELS or len(plan.decoder_filters) < plan.encoder_depth:
        raise PlanError(
            f"decoder_filters={plan.decoder_filters} with encoder_depth={plan.encoder_depth}",
            expected=f"a depth from 1 to {LEVELS}, and a width for each of its stages",
        )
    if any(size % total for size, total in zip(plan.patch_size, plan.total_stride, strict=True)):
        nearest = tuple(
            max(total, round(size / total) * total)
            for size, total in zip(plan.patch_size, plan.total_stride, strict=True)
        )
        raise PlanError(
            f"patch_size={plan.patch_size} with strides that divide it by {plan.total_stride}",
            expected="a patch whose axes are multiples of the total stride",
            fix=f"use patch_size {nearest}",
        )
