"""The plan of a classification: every decision, in one YAML file with comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.errors import PlanError
from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.fields import check_fraction, check_least, check_per_axis, plan_field


@dataclass(frozen=True, kw_only=True)
class ClassificationPlan(TrainingPlan):
    """Every decision of a classification's training; drawn by `draw_classification_plan`.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = "classification"
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "loss": ("ce",),
        "fit": ("resize", "crop"),
        "class_balance": ("none", "weights", "sampling"),
    }

    task: str = plan_field("classification", "what is learned", "task")
    num_classes: int = plan_field(2, "classes", "data")
    model: str = plan_field("resnet18", "a classification model of `resvox models`", "network")
    stem: str | None = plan_field(None, "7x7, deep, or 3x3 for small images; null is the model's own", "network")
    image_size: tuple[int, ...] = plan_field(
        (64, 64, 64), "voxels of what the network sees, which is the whole image", "preprocessing"
    )
    fit: str = plan_field(
        "resize", "how an image gets there: resize it, or crop and pad around its middle", "preprocessing"
    )
    batch_size: int = plan_field(32, "images a step, over all processes together", "preprocessing")
    class_balance: str = plan_field("none", "none; weights in the loss; or sampling, every class equally often")
    loss: str = plan_field("ce", "ce, cross-entropy")
    label_smoothing: float = plan_field(0.0, "share of the certainty that is spread over all classes")

    @property
    def sample_size(self) -> tuple[int, ...]:
        """The whole image, resized or cropped."""
        return self.image_size

    def check_own(self) -> None:
        """Two classes at least, one size an axis, batches that batch norm can use."""
        check_least(self, {"num_classes": 2})
        check_fraction(self, "label_smoothing")
        check_per_axis(self, "image_size", self.spatial_dims)
        if self.norm == "batch" and self.batch_size == 1:
            raise PlanError(
                "norm='batch' with batch_size=1",
                expected="several images a step, or a norm that needs none",
                fix="set norm to instance or group, or batch_size to 2 or more",
            )

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        stem = {} if self.stem is None else {"stem": self.stem}
        return {
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "strides": self.strides,
            "norm": self.norm,
            **stem,
        }
